/*
 * libknowhere_faiss_scann.so, for LD_PRELOAD: stands before those functions of
 * the host's Faiss that Knowhere's index type FAISS calls. What names ScaNN or
 * is an index of ours goes to the engine beside it, all else to the host.
 *
 * Needs nothing but libc and libstdc++: shells and tools that inherit LD_PRELOAD
 * must run without Faiss and OpenBLAS. The headers are the host's, so that a
 * function it does not have is an error of the compiler. Next: engine.cpp.
 */

#include <cstring>
#include <stdexcept>

#include <dlfcn.h>

#include <faiss/cppcontrib/knowhere/SearchParamsDispatch.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include <knowhere_plugin/knowhere_faiss/engine.h>
#include <knowhere_plugin/preload/open_beside.h>
#include <knowhere_plugin/preload/plugin_log.h>

namespace {

using namespace knowhere_plugin::knowhere_faiss;
using knowhere_plugin::log_line;

const Engine* open_engine() {
    static const char here = 0;
    const char* stays_out = "stays out, index type FAISS is the host's own: %s";
    void* library = knowhere_plugin::open_beside(&here, SCANN_PLUGIN_ENGINE);
    if (library == nullptr) {
        log_line(stays_out, dlerror());
        return nullptr;
    }
    auto find = reinterpret_cast<FindEngine*>(dlsym(library, kFindEngine));
    char why[512] = "no engine in it";
    const Engine* found = find == nullptr ? nullptr : find(why, sizeof(why));
    if (found == nullptr) {
        log_line(stays_out, why);
    } else {
        log_line("serves faiss_index_name with ScaNN in index type FAISS");
    }
    return found;
}

/// nullptr: it stays out.
const Engine* engine() {
    static thread_local bool opening = false;
    if (opening) {
        return nullptr; // what the engine asks then is for the host
    }
    opening = true;
    static const Engine* const opened = open_engine();
    opening = false;
    return opened;
}

/// @return the engine, if it is for this index
const Engine* engine_of(const faiss::Index* index) {
    const Engine* found = engine();
    return found != nullptr && found->is_ours(index) ? found : nullptr;
}

/// A function of the host's, by its mangled name.
template <class Signature>
class HostFunction {
 public:
    explicit HostFunction(const char* name)
            : name_(name), next_(dlsym(RTLD_NEXT, name)) {}

    /// @param caller  who called the loader's: where the host's libraries were
    ///                opened locally, only they know their function
    Signature* from(void* caller) const {
        void* found = next_;
        Dl_info info;
        if (found == nullptr && dladdr(caller, &info) != 0) {
            void* library = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
            if (library != nullptr) {
                found = dlsym(library, name_);
                dlclose(library);
            }
        }
        if (found == nullptr) {
            throw std::runtime_error(
                    std::string("faiss_ext: " SCANN_PLUGIN_NAME
                                " finds no function ") +
                    name_);
        }
        return reinterpret_cast<Signature*>(found);
    }

 private:
    const char* name_;
    void* next_;
};

// at once where the host is one; elsewhere the first call opens it
[[gnu::constructor]] void open_in_host() {
    if (dlsym(RTLD_DEFAULT, "_ZTVN5faiss8IndexIVFE") != nullptr) {
        engine();
    }
}

} // namespace

// exports.map names these functions, and nothing else

#define CALLER __builtin_return_address(0)

faiss::Index* faiss::index_factory(
        int d,
        const char* description,
        MetricType metric,
        bool own_invlists) {
    using Factory = Index*(int, const char*, MetricType, bool);
    static const HostFunction<Factory> host(
            "_ZN5faiss13index_factoryEiPKcNS_10MetricTypeEb");
    if (description != nullptr && strcasestr(description, "scann") != nullptr) {
        if (const Engine* found = engine()) {
            return found->index_factory(d, description, metric);
        }
    }
    return host.from(CALLER)(d, description, metric, own_invlists);
}

void faiss::write_index(const Index* index, IOWriter* writer, int io_flags) {
    using Write = void(const Index*, IOWriter*, int);
    static const HostFunction<Write> host(
            "_ZN5faiss11write_indexEPKNS_5IndexEPNS_8IOWriterEi");
    if (const Engine* found = engine_of(index)) {
        return found->write_index(index, writer);
    }
    host.from(CALLER)(index, writer, io_flags);
}

// Faiss' read_index() calls it, and so do those of paths and files
std::unique_ptr<faiss::Index> faiss::read_index_up(
        IOReader* reader,
        int io_flags) {
    using Read = std::unique_ptr<Index>(IOReader*, int);
    static const HostFunction<Read> host(
            "_ZN5faiss13read_index_upEPNS_8IOReaderEi");
    Read* read = host.from(CALLER);
    const Engine* found = engine();
    return found == nullptr ? read(reader, io_flags)
                            : found->read_index(reader, io_flags, read);
}

faiss::Index* faiss::read_index(IOReader* reader, int io_flags) {
    return read_index_up(reader, io_flags).release();
}

namespace faiss::cppcontrib::knowhere {

std::unique_ptr<SearchParameters> make_search_params(const Index* index) {
    using Make = std::unique_ptr<SearchParameters>(const Index*);
    static const HostFunction<Make> host(
            "_ZN5faiss10cppcontrib8knowhere18make_search_paramsEPKNS_5IndexE");
    if (const Engine* found = engine_of(index)) {
        return found->make_search_params(index);
    }
    return host.from(CALLER)(index);
}

std::set<std::string> supported_search_params(const Index* index) {
    using Names = std::set<std::string>(const Index*);
    static const HostFunction<Names> host(
            "_ZN5faiss10cppcontrib8knowhere23supported_search_"
            "paramsB5cxx11EPKNS_"
            "5IndexE");
    if (const Engine* found = engine_of(index)) {
        return found->search_param_names();
    }
    return host.from(CALLER)(index);
}

bool try_set_search_param(
        SearchParameters* params,
        const std::string& name,
        double value) {
    using Set = bool(SearchParameters*, const std::string&, double);
    static const HostFunction<Set> host(
            "_ZN5faiss10cppcontrib8knowhere20try_set_search_paramEPNS_"
            "16SearchParametersERKNSt7__cxx1112basic_stringIcSt11char_"
            "traitsIcESaIcEEEd");
    const Engine* found = engine();
    if (found != nullptr && found->set_search_param(params, name, value)) {
        return true;
    }
    return host.from(CALLER)(params, name, value);
}

} // namespace faiss::cppcontrib::knowhere
