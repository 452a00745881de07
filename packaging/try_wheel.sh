#!/usr/bin/env bash
# The wheel away from the checkout, under each other Python that is here: installed afresh, without torch, and used.
#     packaging/try_wheel.sh .venv/bin/python
# A Python whose packages cannot be fetched is named and passed over; a wheel that does not work ends with 1.
set -euo pipefail
builder=$(realpath -s "$1")
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$builder" -m pip wheel --disable-pip-version-check -q --no-deps --no-build-isolation -w "$place" .
wheel=$(echo "$place"/mrprism-*.whl)
cd "$place"

try() { # VERSION PYTHON
  "$2" -m venv "env$1"
  "env$1/bin/pip" install --disable-pip-version-check -q --no-deps "$wheel" || return 1  # needs nothing from elsewhere
  if ! "env$1/bin/pip" install --disable-pip-version-check -q "$wheel" >"log$1" 2>&1; then
    tail -n 2 "log$1"
    echo "SKIPPED: what mrprism needs cannot be installed for Python $1 here"
    return 0
  fi
  tried="env$1/bin/mrprism"
  {
    "$tried" phantom "data$1" --size 32 --cases 8 &&
      "$tried" check "data$1" &&
      "$tried" agree "data$1" --out "agreement$1" --resamples 20 &&
      "$tried" fuse "data$1" --method outline --pooled --out "fused$1" &&
      "$tried" export "data$1" --to coco --out "coco$1"
  } >"log$1" 2>&1 || {
    cat "log$1"
    echo "the wheel does not work under Python $1"
    return 1
  }
  echo "the wheel works under Python $1"
}

trying=()
for version in 3.12 3.13 3.14; do
  python=
  for each in "python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
    if "$each" -c 'import ensurepip' 2>/dev/null; then python=$each; fi
  done
  if [ -z "$python" ]; then
    echo "Python $version is not here: the wheel was not tried with it"
    continue
  fi
  try "$version" "$python" &
  trying+=($!)
done
failed=0
for one in "${trying[@]}"; do wait "$one" || failed=1; done
exit $failed
