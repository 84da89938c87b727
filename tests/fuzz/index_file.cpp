/* A file of the engine: read, mapped and streamed; then every operation on
 * what loads. Errors must be faiss::FaissException. */

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <memory>
#include <random>

#include <faiss/IndexIDMap.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/io.h>
#include <zlib.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

#include "sealing.h"

namespace fuzz {

namespace {

using IndexPtr = std::unique_ptr<faiss::Index>;

/// what an operation may cost: d, rows and lists of what is worked on
constexpr int64_t kMostDimensions = 64, kMostRows = 4096;
constexpr size_t kMostLists = 4096;
constexpr int64_t kQueries = 3, kNew = 3;

template <class F>
bool attempt(F&& f) {
    try {
        f();
        return true;
    } catch (const faiss::FaissException&) {
        return false;
    }
}

/// Bytes as a file that can be opened by its path, without a disk.
class MemoryFile {
 public:
    explicit MemoryFile(Bytes bytes) {
        if (ftruncate(file(), 0) != 0 ||
            pwrite(file(), bytes.data(), bytes.size(), 0) !=
                    ssize_t(bytes.size())) {
            throw std::runtime_error("cannot write to memory");
        }
    }
    std::string path() const {
        return "/proc/self/fd/" + std::to_string(file());
    }

 private:
    static int file() {
        static int descriptor = memfd_create("index", MFD_CLOEXEC);
        return descriptor;
    }
};

class Operations {
 public:
    Operations(faiss::Index& root, uint32_t seed)
            : root_(root),
              scann_(*faiss_ext::find_scann(&root)),
              random_(seed) {}

    void look() {
        attempt([&] { scann_.memory_usage(); });
        attempt([&] { scann_.notes(); });
        attempt([&] { scann_.estimate_memory(100); });
        for (int64_t k : {1, 5, 40}) {
            search(nullptr, k);
        }
        faiss_ext::SearchParametersScaNN wide;
        faiss_ext::ScaNNSearchStats stats;
        wide.nprobe = scann_.nlist;
        wide.reorder_k = 1 + random_() % 64;
        wide.refine_k = wide.reorder_k + random_() % 64;
        wide.stats = &stats;
        search(&wide, 7);
        wide.max_codes = 1 + random_() % 50;
        wide.reorder_k = wide.refine_k = 0;
        search(&wide, 2);
        wide.max_codes = 0;
        faiss::IDSelectorRange some(0, 1 + random_() % 40);
        wide.sel = &some;
        search(&wide, 3);
        std::vector<int64_t> few = {0, 1, 5, 11, int64_t(random_())};
        faiss::IDSelectorBatch batch(few.size(), few.data());
        wide.sel = &batch;
        search(&wide, 3);
        range(nullptr);
        wide.sel = nullptr;
        range(&wide);
        for (int64_t id : ids()) {
            std::vector<float> row(size_t(root_.d));
            attempt([&] { root_.reconstruct(id, row.data()); });
        }
        attempt([&] {
            std::vector<float> x = rows(kQueries, scann_), found(kQueries * 2),
                               made(kQueries * 2 * size_t(scann_.d));
            std::vector<int64_t> labels(kQueries * 2);
            scann_.search_and_reconstruct(
                    kQueries,
                    x.data(),
                    2,
                    found.data(),
                    labels.data(),
                    made.data());
        });
        attempt([&] {
            std::unique_ptr<faiss::DistanceComputer> computer(
                    scann_.get_distance_computer());
            std::vector<float> x = rows(1, scann_);
            computer->set_query(x.data());
            for (int64_t id : ids()) {
                attempt([&] { (*computer)(id); });
            }
        });
        attempt([&] { IndexPtr plain(faiss_ext::export_to_faiss(&root_)); });
    }

    /// @param checked  all that was read was checked: what is written from it
    ///                 must open again
    void copy(bool checked) {
        faiss::VectorIOWriter writer;
        bool written =
                attempt([&] { faiss_ext::write_index(&root_, &writer); });
        if (written) {
            faiss::VectorIOReader reader;
            reader.data = std::move(writer.data);
            IndexPtr again;
            try {
                again.reset(faiss_ext::read_index(&reader));
            } catch (const faiss::FaissException& error) {
                if (checked) {
                    throw BrokenPromise(
                            "what was loaded and saved does not load: " +
                            std::string(error.what()));
                }
            }
        }
        IndexPtr clone;
        attempt([&] { clone.reset(faiss_ext::clone_index(&root_)); });
        if (clone == nullptr) {
            return;
        }
        if (random_() % 2 == 0) { // takes the rows of `root_`
            attempt([&] { clone->merge_from(root_, 0); });
        }
        Operations(*clone, random_()).change();
    }

    void change() {
        switch (random_() % 4) {
            case 0:
                attempt([&] { scann_.make_direct_map(); });
                break;
            case 1:
                attempt([&] {
                    scann_.set_direct_map_type(faiss::DirectMap::Hashtable);
                });
                break;
            case 2:
                attempt([&] {
                    scann_.set_direct_map_type(faiss::DirectMap::NoMap);
                });
                break;
        }
        std::vector<float> x = rows(kNew, root_), inner = rows(kNew, scann_);
        std::vector<int64_t> known = ids(), fresh = {1000, 1001, 7000};
        attempt([&] { root_.add(kNew, x.data()); });
        attempt([&] { root_.add_with_ids(kNew, x.data(), fresh.data()); });
        search(nullptr, 4);
        attempt([&] { scann_.update_vectors(1, known.data(), inner.data()); });
        attempt([&] { scann_.update_vectors(2, fresh.data(), inner.data()); });
        attempt([&] {
            faiss::IDSelectorBatch gone(2, known.data());
            root_.remove_ids(gone);
        });
        search(nullptr, 4);
        attempt([&] {
            faiss::IDSelectorRange gone(3, 9);
            root_.remove_ids(gone);
        });
        attempt([&] {
            scann_.update_vectors(1, known.data() + 2, inner.data());
        });
        attempt([&] { root_.add(kNew, x.data()); });
        search(nullptr, 40);
        if (scann_.ntotal < 200 && random_() % 4 == 0) {
            attempt([&] { scann_.calibrate(0, nullptr, .9f, 2); });
            attempt([&] { scann_.calibrate(kNew, inner.data(), .5f, 1); });
            search(nullptr, 3);
        }
        attempt([&] { root_.reset(); });
        attempt([&] { root_.add(kNew, x.data()); });
        search(nullptr, 2);
    }

 private:
    /// @param index  whose dimension they have
    std::vector<float> rows(int64_t n, const faiss::Index& index) {
        std::vector<float> x(size_t(n) * size_t(index.d));
        for (float& value : x) {
            value = float(int(random_() % 2001) - 1000) / 250;
        }
        if (random_() % 16 == 0) {
            x[random_() % x.size()] = random_() % 2 == 0 ? 1e30f : 1e-42f;
        }
        return x;
    }

    std::vector<int64_t> ids() {
        int64_t n = std::max<int64_t>(root_.ntotal, 1);
        return {0, int64_t(random_() % n), n - 1, int64_t(random_() % 64), -1};
    }

    void search(const faiss::SearchParameters* parameters, int64_t k) {
        attempt([&] {
            // wrappers hand no parameters on
            faiss::Index& index = parameters == nullptr ? root_ : scann_;
            std::vector<float> x = rows(kQueries, index), found(kQueries * k);
            std::vector<int64_t> labels(kQueries * k);
            index.search(
                    kQueries,
                    x.data(),
                    k,
                    found.data(),
                    labels.data(),
                    parameters);
        });
    }

    void range(const faiss::SearchParameters* parameters) {
        attempt([&] {
            std::vector<float> x = rows(1, scann_);
            faiss::RangeSearchResult result(1);
            scann_.range_search(1, x.data(), 3.f, &result, parameters);
        });
    }

    faiss::Index& root_;
    faiss_ext::IndexIVFScaNN& scann_;
    std::minstd_rand random_;
};

bool is_small(const faiss::Index& root) {
    const faiss_ext::IndexIVFScaNN* scann = faiss_ext::find_scann(&root);
    if (scann == nullptr) {
        throw BrokenPromise("an index without ScaNN was loaded");
    }
    return root.d <= kMostDimensions && scann->d <= kMostDimensions &&
           root.ntotal <= kMostRows && scann->ntotal <= kMostRows &&
           scann->nlist <= kMostLists;
}

void use(faiss::Index* loaded, uint32_t seed, bool checked) {
    IndexPtr index(loaded);
    if (!is_small(*index)) {
        return;
    }
    Operations operations(*index, seed);
    operations.look();
    operations.copy(checked);
    operations.change();
}

} // namespace

void index_file(Bytes input) {
    Buffer bytes = sealed(input);
    uint32_t seed = uint32_t(crc32(0, bytes.data(), uInt(bytes.size())));
    MemoryLimit limit(bytes.size());
    switch (seed % 3) {
        case 0:
            attempt([&] {
                MemoryFile file(bytes);
                use(faiss_ext::read_index(file.path()), seed, true);
            });
            break;
        case 1:
            attempt([&] {
                MemoryFile file(bytes);
                use(faiss_ext::read_index(
                            file.path(), faiss_ext::ReadMode::Mmap),
                    seed,
                    false);
            });
            break;
        case 2:
            attempt([&] {
                faiss::VectorIOReader reader;
                reader.data = bytes;
                use(faiss_ext::read_index(&reader), seed, true);
            });
            break;
    }
}

} // namespace fuzz
