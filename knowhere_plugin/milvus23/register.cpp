/*
 * libknowhere_scann_engine.so: takes the name "SCANN" over when loader.cpp
 * opens it. The host keeps a list of type names, so no new one would do; the
 * last registration of a name wins.
 */

#include <exception>

#include <knowhere_plugin/milvus23/abi.h>
#include <knowhere_plugin/milvus23/counters.h>
#include <knowhere_plugin/milvus23/engine_c.h>
#include <knowhere_plugin/milvus23/host_guard.h>
#include <knowhere_plugin/milvus23/node.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace {

using namespace knowhere_plugin::milvus23;
using knowhere_plugin::log_line;

[[gnu::constructor]] void register_node() {
    HostFunctions functions;
    char text[2048] = "";
    // checked again: users may preload this library itself
    if (find_host(&functions, text, sizeof(text)) != Host::Known) {
        return;
    }
    if (!engine_describe(text, sizeof(text))) {
        log_line("stays out, \"SCANN\" is the host's own: %s", text);
        return;
    }
    try {
        open_counters();
        void* factory =
                reinterpret_cast<abi::InstanceFunction>(functions.instance)();
        reinterpret_cast<abi::RegisterFunction>(functions.register_type)(
                factory, kTypeName, create_node);
        log_line("%s serves index type \"%s\"", text, kTypeName);
    } catch (const std::exception& error) {
        log_line("stays out, \"SCANN\" is the host's own: %s", error.what());
    } catch (...) {
        log_line("stays out, \"SCANN\" is the host's own");
    }
}

} // namespace
