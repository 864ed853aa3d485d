"""The type table is the installed library's."""

from __future__ import annotations

import ctypes

import llama_cpp

from localllm.gguf import FILE_TYPES, GGML_TYPES, GGML_TYPES_BY_NAME

N_TYPES = 43


def test_every_type_is_as_the_library_has_it() -> None:
    ggml = llama_cpp.llama_cpp._lib
    results = {
        "ggml_type_size": ctypes.c_size_t,
        "ggml_blck_size": ctypes.c_int64,
        "ggml_type_name": ctypes.c_char_p,
    }
    for function, result in results.items():
        getattr(ggml, function).restype = result
        getattr(ggml, function).argtypes = [ctypes.c_int]
    for number in range(N_TYPES):
        entry = GGML_TYPES.get(number)
        if entry is None:
            assert ggml.ggml_blck_size(number) == 0
        else:
            assert entry.name == ggml.ggml_type_name(number).decode()
            assert entry.block_size == ggml.ggml_blck_size(number)
            assert entry.block_bytes == ggml.ggml_type_size(number)


def test_file_types_are_as_the_library_numbers_them() -> None:
    for number, name in FILE_TYPES.items():
        prefix = "LLAMA_FTYPE_ALL_" if name == "F32" else "LLAMA_FTYPE_MOSTLY_"
        assert getattr(llama_cpp, prefix + name, number) == number


def test_sizes_follow_from_blocks() -> None:
    assert GGML_TYPES_BY_NAME["q4_K"].bpw == 4.5
    assert GGML_TYPES_BY_NAME["q8_0"].n_bytes(64) == 68
