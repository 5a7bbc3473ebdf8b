#!/bin/sh
# Prints the Pythons that can hold this project, the newest first, one of each version. Candidates are the arguments, else
# the usual names; where none of those will do and uv is installed, uv fetches one.
# Each candidate is run: pyenv puts a name of every version on PATH, and Debian's python3 lacks what `-m venv` needs.
suits='import ensurepip, sys, venv
if (3, 10) <= sys.version_info < (3, 13): print("%d.%d" % sys.version_info[:2], sys.executable)'
candidates=${*:-python3.12 python3.11 python3.10 python3}

found=$(for python in $candidates; do $python -c "$suits" 2> /dev/null; done | sort -u -V -r -k 1,1 | cut -d ' ' -f 2)
if [ -z "$found" ] && [ $# = 0 ] && command -v uv > /dev/null; then
	found=$(UV_PYTHON_INSTALL_BIN=0 uv python install --quiet 3.12 && uv python find --managed-python 3.12)
fi
if [ -z "$found" ]; then
	echo "Python 3.10, 3.11 or 3.12 with its venv module is needed, and none of these is one: $candidates." \
		"Install one (Debian, Ubuntu: python3-venv), or uv, which fetches one, or name one: make PYTHON=/path/to/python3.12" >&2
	exit 1
fi
echo "$found"
