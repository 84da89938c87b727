#include <knowhere_plugin/index_factory.h>

#include <algorithm>
#include <cstddef>
#include <mutex>
#include <new>

#include <dlfcn.h>

#include <faiss_ext/wrappers/factory_parts.h>

#include <knowhere_plugin/guard.h>
#include <knowhere_plugin/nodes.h>

namespace knowhere_plugin {

size_t BitsetView::count() const noexcept {
    size_t set = 0;
    for (size_t byte = 0; byte < num_bits_ / 8; byte++) {
        set += size_t(__builtin_popcount(bits_[byte]));
    }
    if (num_bits_ % 8 != 0) {
        unsigned mask = (1u << num_bits_ % 8) - 1;
        set += size_t(__builtin_popcount(bits_[num_bits_ / 8] & mask));
    }
    return set;
}

namespace {

class Registry : public IndexFactory {
 public:
    Registry() {
        register_scann_node(*this);
        register_flat_node(*this);
        register_ivf_nodes(*this);
        register_hnsw_node(*this);
    }

    Status Register(
            const std::string& name,
            Creator creator,
            uint64_t features) noexcept override {
        return guarded([&] {
            if (name.empty() || !creator) {
                throw Fault(
                        StatusCode::invalid_args,
                        "name = " + faiss_ext::quoted(name) +
                                " without a creator or empty (allowed: a name "
                                "and a creator)");
            }
            std::lock_guard lock(mutex_.here());
            Entry& entry = entries_[name];
            entry.creator = std::move(creator);
            entry.features |= features;
        });
    }

    Expected<NodePtr> Create(const std::string& name, int32_t version)
            const noexcept override {
        return guarded_value<NodePtr>([&] {
            if (version < kMinVersion || version > kMaxVersion) {
                throw Fault(
                        StatusCode::invalid_index_error,
                        "version = " + std::to_string(version) +
                                " (allowed: " + std::to_string(kMinVersion) +
                                ".." + std::to_string(kMaxVersion) + ")");
            }
            Creator creator;
            {
                std::lock_guard lock(mutex_.here());
                auto found = entries_.find(name);
                if (found == entries_.end()) {
                    std::string names;
                    for (const auto& entry : entries_) {
                        names += (names.empty() ? "" : ", ") + entry.first;
                    }
                    throw Fault(
                            StatusCode::invalid_index_error,
                            "no index type " + faiss_ext::quoted(name) +
                                    " (known: " + names + ")");
                }
                creator = found->second.creator;
            }
            NodePtr node = creator(version);
            if (node == nullptr) {
                throw Fault(
                        StatusCode::invalid_index_error,
                        "the creator of " + faiss_ext::quoted(name) +
                                " made nothing");
            }
            return node;
        });
    }

    std::map<std::string, uint64_t> Types() const noexcept override {
        std::map<std::string, uint64_t> types;
        guarded([&] {
            std::lock_guard lock(mutex_.here());
            for (const auto& [name, entry] : entries_) {
                types[name] = entry.features;
            }
        });
        return types;
    }

    Status Load(const std::string& path) noexcept override {
        return guarded([&] {
            // never unloaded: its nodes may live as long as the process
            void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
            if (module == nullptr) {
                throw Fault(StatusCode::disk_file_error, dlerror());
            }
            using Entrance = void (*)(IndexFactory*);
            auto enter = reinterpret_cast<Entrance>(
                    dlsym(module, "knowhere_plugin_register"));
            if (enter == nullptr) {
                dlclose(module);
                throw Fault(
                        StatusCode::invalid_args,
                        path + " has no knowhere_plugin_register");
            }
            enter(this);
        });
    }

 private:
    struct Entry {
        Creator creator;
        uint64_t features = 0;
    };
    faiss_ext::PerProcess<std::mutex> mutex_;
    std::map<std::string, Entry> entries_;
};

} // namespace

IndexFactory& IndexFactory::Instance() noexcept {
    // never destroyed: nodes may be made while the process ends
    alignas(Registry) static std::byte memory[sizeof(Registry)];
    static Registry* registry = new (memory) Registry;
    return *registry;
}

} // namespace knowhere_plugin
