/*
 * libknowhere_scann.so, for LD_PRELOAD: opens the engine beside it if this
 * process is the known host, and otherwise leaves it alone.
 *
 * Needs nothing but libc: shells and tools that inherit LD_PRELOAD must run
 * without OpenBLAS, whose mere loading starts threads, and an engine that
 * cannot be loaded (a missing or too old library) must not end the host.
 * Next: register.cpp.
 */

#include <dlfcn.h>

#include <knowhere_plugin/milvus23/host_guard.h>
#include <knowhere_plugin/preload/open_beside.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace {

using namespace knowhere_plugin;
using namespace knowhere_plugin::milvus23;

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
    static const char here = 0;
    if (open_beside(&here, SCANN_PLUGIN_ENGINE) == nullptr) {
        log_line("stays out, \"SCANN\" is the host's own: %s", dlerror());
    }
}

} // namespace
