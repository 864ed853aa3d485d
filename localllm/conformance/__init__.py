"""Does an OpenAI-compatible server do what API clients rely on? The suite behind `localllm doctor --api URL`.

It knows servers only by their answers, so it runs against any of them: nothing of ours is imported but the errors.

    check.py    what a check is, and how it says what it expected and saw
    points.py   the points that the checks are grouped by
    exchange.py requests and answers as they are on the wire
    target.py   one server: its clients, its model, and what it turned out to be able to do
    forcing.py  requests whose answers do not depend on how clever the model is
    checks/     the checks, a module for each point
    runner.py   runs them, whatever the server does
    report.py   the result as text and as JSON; compare.py: several results as one table
"""
