#include <knowhere_plugin/milvus23/host_guard.h>

#include <cstdio>

#include <dlfcn.h>

#include <knowhere_plugin/preload/symbol_size.h>

namespace knowhere_plugin::milvus23 {

namespace {

// mangled with the old std::string (Ss): with the new one the names differ
constexpr char kInstance[] = "_ZN8knowhere12IndexFactory8InstanceEv";
constexpr char kRegister[] =
        "_ZN8knowhere12IndexFactory8RegisterERKSsSt8functionIFNS_5IndexINS_"
        "9IndexNodeEEERKiRKNS_6ObjectEEE";

/// Two words, then one for each virtual function: in Knowhere 2.3 a node has
/// other functions, and a config too.
struct KnownTable {
    const char* what;
    const char* symbol;
    size_t size;
};
constexpr KnownTable kTables[] = {
        {"a node",
         "_ZTVN8knowhere12IvfIndexNodeIN5faiss10IndexScaNNEEE",
         (2 + 19) * sizeof(void*)},
        {"a config", "_ZTVN8knowhere10BaseConfigE", (2 + 6) * sizeof(void*)},
};

} // namespace

Host find_host(HostFunctions* functions, char* why, size_t size) noexcept {
    functions->instance = dlsym(RTLD_DEFAULT, kInstance);
    functions->register_type = dlsym(RTLD_DEFAULT, kRegister);
    if (functions->instance == nullptr) {
        return Host::None;
    }
    constexpr char kKnown[] =
            "this is not Knowhere v2.2.3 as in milvus==2.3.5 of PyPI";
    if (functions->register_type == nullptr) {
        snprintf(
                why,
                size,
                "no IndexFactory::Register(std::string, ...) as it was then; "
                "%s",
                kKnown);
        return Host::Other;
    }
    for (const KnownTable& table : kTables) {
        size_t found = symbol_size(table.symbol);
        if (found != table.size) {
            snprintf(
                    why,
                    size,
                    "the virtual functions of %s take %zu bytes (known: %zu); "
                    "%s",
                    table.what,
                    found,
                    table.size,
                    kKnown);
            return Host::Other;
        }
    }
    return Host::Known;
}

} // namespace knowhere_plugin::milvus23
