/*
 * libknowhere_scann.so, for LD_PRELOAD: opens the engine beside it if this
 * process is the known host, and otherwise leaves it alone.
 *
 * Needs nothing but libc: shells and tools that inherit LD_PRELOAD must run
 * without OpenBLAS, whose mere loading starts threads, and an engine that
 * cannot be loaded (a missing or too old library) must not end the host.
 * Next: register.cpp.
 */

#include <cstdio>
#include <cstring>

#include <dlfcn.h>

#include <knowhere_plugin/milvus23/host_guard.h>
#include <knowhere_plugin/milvus23/plugin_log.h>

namespace {

using namespace knowhere_plugin::milvus23;

/// @return nullptr after an error, see dlerror(). Not by $ORIGIN, which is the
/// folder of the library that calls the real dlopen(): it may be a sanitizer's or
/// a profiler's.
void* open_beside_me(const char* name) {
    Dl_info me;
    char path[4096];
    static const char here = 0;
    const char* slash = dladdr(&here, &me) == 0 || me.dli_fname == nullptr
                                ? nullptr
                                : std::strrchr(me.dli_fname, '/');
    int folder = slash == nullptr ? 0 : int(slash + 1 - me.dli_fname);
    int size = snprintf(
            path,
            sizeof(path),
            "%.*s%s",
            folder,
            folder == 0 ? "" : me.dli_fname,
            name);
    bool fits = size > 0 && size_t(size) < sizeof(path);
    return dlopen(fits ? path : name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
}

// a preloaded library is initialised last: the host has its own types by now
[[gnu::constructor]] void load_engine() {
    HostFunctions functions;
    char why[512] = "";
    switch (find_host(&functions, why, sizeof(why))) {
        case Host::None:
            return;
        case Host::Other:
            log_line("stays out, \"SCANN\" is the host's own: %s", why);
            return;
        case Host::Known:
            break;
    }
    if (open_beside_me(SCANN_PLUGIN_ENGINE) == nullptr) {
        log_line("stays out, \"SCANN\" is the host's own: %s", dlerror());
    }
}

} // namespace
