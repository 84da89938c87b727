# Set-up shared by bench/demo and tests/run: Debian packages, Python
# environments, the Python package. Sourced by bash from the repository's root.
#
# Everything is made once, in build/: a second run only looks that it is there.

jobs=$(nproc 2>/dev/null || echo 2)
venv=build/venv
milvus_venv=build/venv-milvus
logs=build/logs

build_packages=(cmake g++ ninja-build libboost-dev libfaiss-dev libopenblas-dev
    zlib1g-dev python3-dev python3-venv)
test_packages=(libgtest-dev ccache pkgconf lld)
# llvm: names in the reports of sanitizers, which the lists of known leaks need
clang_packages=(clang libclang-rt-dev libomp-dev llvm)
tidy_packages=(clang-tidy)
docs_packages=(doxygen)
cross_packages=(g++-aarch64-linux-gnu googletest qemu-user)

build_requirements=("numpy>=1.24,<3" "pybind11>=2.13,<4" "scikit-build-core>=0.11,<2"
    "hatch-fancy-pypi-readme>=23.1,<27")
test_requirements=("pytest>=7.4,<10" "pytest-xdist>=3.5,<4" "hypothesis>=6.100,<7" "matplotlib>=3.7,<4" "faiss-cpu>=1.8,<2"
    "milvus-lite==3.2.2; python_version>='3.10'" "pymilvus>=2.6.15,<4; python_version>='3.10'"
    "ruff>=0.17,<0.18" "mypy>=1.19,<3" "h5py>=3.10,<4" "pyyaml>=6,<7"
    "scikit-learn>=1.6,<2" "ml-dtypes>=0.3,<1" "opencv-python-headless>=4.6,<5"
    "langchain-core==1.8.3; python_version>='3.10'" "llama-index-core==0.14.25; python_version>='3.10'")
# of one time, each exactly: pip takes twenty minutes to find versions that fit each other
docs_requirements=("sphinx==8.1.3" "docutils==0.21.2" "myst-parser==4.0.1" "furo==2024.8.6" "breathe==4.36.0"
    "sphinx-gallery==0.19.0" "matplotlib>=3.7,<4" "faiss-cpu>=1.8,<2" "pytest>=7.4,<10")
# the last Milvus server on PyPI, apart from everything else in build/venv-milvus.
# Its clients of that time have no wheels for Python 3.12 and newer; from 3.1 on
# they lack the classes that our tests and benchmarks use.
milvus_requirements=("milvus==2.3.5" "pymilvus>=2.6.15,<3.1" "numpy>=1.24,<3" "pyarrow>=15" "pytest>=7.4,<10")

# wrong TEXT: a mistake in the arguments, in one line that says what is right
wrong() {
    echo "$0: $*" >&2
    exit 2
}

# say TEXT: a step begins
say() {
    if [ -t 1 ]; then printf '\033[1m== %s\033[0m\n' "$*"; else printf '== %s\n' "$*"; fi
}

# timed COMMAND...: and how long it took, into $took
timed() {
    local TIMEFORMAT='%0R s (CPU: %0U s, system %0S s)' status=0 clock
    clock=$(mktemp)
    { time "$@" 2>&3; } 3>&2 2>"$clock" || status=$?
    took=$(cat "$clock")
    rm -f "$clock"
    return "$status"
}

# write_junit SUITE FILE: results for tests/summary.py, of input lines "NAME" or
# "NAME what failed"; names without spaces or &, <, "
write_junit() {
    {
        echo "<testsuite name=\"$1\">"
        while read -r name failure; do
            echo "<testcase name=\"$1.$name\">${failure:+<failure message=\"$failure\"/>}</testcase>"
        done
        echo '</testsuite>'
    } >"$2"
}

# into_log FILE COMMAND...: its output; a terminal sees how far the compiler is.
into_log() {
    local log=$1
    shift
    if [ -t 1 ]; then
        "$@" 2>&1 | tee "$log" | awk '
            match($0, /\[[0-9]+\/[0-9]+\]/) {
                printf "\r   %s", substr($0, RSTART, RLENGTH); fflush() }
            END { printf "\r\033[K" }'
        return "${PIPESTATUS[0]}"
    fi
    "$@" >"$log" 2>&1
}

# logged NAME COMMAND...: output into build/logs/NAME.log; after a failure
# everybody sees the end of the log.
logged() {
    local log=$logs/$1.log status=0 took
    shift
    mkdir -p "$logs"
    timed into_log "$log" "$@" || status=$?
    if [ "$status" != 0 ]; then
        grep -nE 'error|FAILED' "$log" | head -n 20
        tail -n 40 "$log"
        echo "failed: $* (all of its output: $log)"
        return "$status"
    fi
    echo "   done in $took"
}

# need_packages NAME...: installs the Debian packages that are missing.
need_packages() {
    local missing=() name as_root=()
    if ! command -v dpkg-query >/dev/null; then
        echo "This is no Debian: make sure that you have what it calls $*"
        return 0
    fi
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} != 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo)
        [ -t 0 ] || as_root+=(-n)
        if ! command -v sudo >/dev/null; then
            echo "Missing packages; please have installed: apt-get install ${missing[*]}"
            return 1
        fi
    fi
    say "installing ${missing[*]}"
    logged apt-update "${as_root[@]}" apt-get -o DPkg::Lock::Timeout=120 update &&
        logged apt-install "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}"
}

# need_python REQUIREMENT...: the environment $venv, with these in it.
need_python() {
    local name missing=()
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "making the Python environment $venv"
        logged venv "${PYTHON:-python3}" -m venv --clear "$venv" || return 1
    fi
    touch "$venv/requirements"
    for name in "$@"; do
        grep -qxF "$name" "$venv/requirements" || missing+=("$name")
    done
    [ ${#missing[@]} != 0 ] || return 0
    say "Python packages: ${missing[*]}"
    logged "pip-${venv##*/}" "$venv/bin/pip" install --disable-pip-version-check --no-compile "${missing[@]}" &&
        printf '%s\n' "${missing[@]}" >>"$venv/requirements"
}

# use_ccache: what one part has compiled, the next one (the wheel after the
# preset release, the same flags) and the next clone of this tree take from
# there. A build folder keeps the way in which it was made.
use_ccache() {
    command -v ccache >/dev/null || return 0
    export CMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER-ccache}
    # the compiler by one name: pip would take that of Python's own build
    export CXX=${CXX:-c++}
    # by the compiler's list of headers: without it each file is preprocessed
    # once more, which costs as much as the wheel saves
    export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$PWD} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
    # what it asks for where headers are precompiled; and units of folders lie at
    # another path in the build folder of the wheel (which ccache 4.11 minds)
    export CCACHE_SLOPPINESS=pch_defines,time_macros,file_macro
}

# install_package: the wheel of this tree, built and put into build/venv. The
# compiler only does what changed since the last time.
install_package() {
    say "building and installing the Python package ($jobs jobs; the first time takes minutes)"
    rm -rf build/dist
    CMAKE_BUILD_PARALLEL_LEVEL=$jobs logged wheel "$venv/bin/pip" wheel -v --disable-pip-version-check \
        --no-build-isolation --no-deps --wheel-dir build/dist . &&
        install_wheel
}

# install_wheel: what install_package has built, into $venv.
install_wheel() {
    logged "wheel-install-${venv##*/}" "$venv/bin/pip" install --disable-pip-version-check \
        --no-index --no-deps --force-reinstall build/dist/*.whl
}

# milvus_exists: whether there is a Milvus server for this machine.
milvus_exists() {
    [ "$(uname -m)" = x86_64 ] || { echo "the Milvus server of PyPI is for x86-64, this is $(uname -m)"; return 1; }
}

# need_milvus: the environment build/venv-milvus with a Milvus server and its
# client; then install_in_milvus: and the package that install_package has built.
need_milvus() {
    local venv=$milvus_venv
    milvus_exists && need_python "${milvus_requirements[@]}"
}
install_in_milvus() {
    local venv=$milvus_venv
    install_wheel
}
