#!/bin/sh
# Runs rustc, whose path and arguments cargo passes, with AddressSanitizer. Where two options conflict, rustc uses the
# last one. Debug assertions also enable the precondition checks of the standard library's unsafe functions.
RUSTC_BOOTSTRAP=1 exec "$@" -Zsanitizer=address --cfg waggle_heap -Cdebug-assertions=on -Coverflow-checks=on
