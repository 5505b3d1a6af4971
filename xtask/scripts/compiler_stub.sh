#!/bin/sh
# A stub of C compilers, archivers and nvcc for lints, which need no code: creates empty output files, for
# `cc -o FILE`, `cl -FoFILE`, `ar … FILE.a …`, `lib -out:FILE` and `nvcc --output-directory DIR … FILE.cu`.
for argument in "$@"; do
    case "$before $argument" in
    -o\ * | *\ *.a) : >"$argument" ;;
    --output-directory\ *) folder=$argument ;;
    *\ -Fo?*) : >"${argument#-Fo}" ;;
    *\ -out:*) : >"${argument#-out:}" ;;
    *\ *.cu) [ -z "$folder" ] || : >"$folder/$(basename "$argument" .cu).ptx" ;;
    esac
    before=$argument
done
