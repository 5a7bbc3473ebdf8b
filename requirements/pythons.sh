#!/bin/sh
# Prints the Pythons that this project can use, one per version, newest first. Candidates are the arguments, or else the
# usual names; if none of those works and uv is installed, uv downloads one.
# Each candidate is run: pyenv puts every version's name on PATH, and Debian's python3 lacks a module for `-m venv`.
suits='import ensurepip, sys, venv
if (3, 10) <= sys.version_info < (3, 13): print("%d.%d" % sys.version_info[:2], sys.executable)'
candidates=${*:-python3.12 python3.11 python3.10 python3}

found=$(for python in $candidates; do $python -c "$suits" 2> /dev/null; done | sort -u -V -r -k 1,1 | cut -d ' ' -f 2)
if [ -z "$found" ] && [ $# = 0 ] && command -v uv > /dev/null; then
	found=$(UV_PYTHON_INSTALL_BIN=0 uv python install --quiet 3.12 && uv python find --managed-python 3.12)
fi
if [ -z "$found" ]; then
	echo "Python 3.10, 3.11 or 3.12 with its venv module is needed; none of these qualifies: $candidates." \
		"Install one (Debian, Ubuntu: python3-venv), or uv, which downloads one, or name one: make PYTHON=/path/to/python3.12" >&2
	exit 1
fi
echo "$found"
