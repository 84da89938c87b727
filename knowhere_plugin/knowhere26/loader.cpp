/*
 * libknowhere_scann26.so, for LD_PRELOAD: opens the engine beside it where there
 * is a Knowhere, and otherwise does nothing. Needs nothing but libc: shells and
 * tools that inherit LD_PRELOAD have no Knowhere. Next: scann_adapter.cpp.
 */

#include <dlfcn.h>

#include <knowhere_plugin/preload/open_beside.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace {

using namespace knowhere_plugin;

// a preloaded library is initialised last: the host has its own types by now
[[gnu::constructor]] void open_in_host() {
    constexpr char kInstance[] = "_ZN8knowhere12IndexFactory8InstanceEv";
    if (dlsym(RTLD_DEFAULT, kInstance) == nullptr) {
        return;
    }
    static const char here = 0;
    if (open_beside(&here, SCANN_PLUGIN_ENGINE) == nullptr) {
        log_line("stays out, \"SCANN\" is the host's own: %s", dlerror());
    } else {
        log_line("serves index type \"SCANN\"");
    }
}

} // namespace
