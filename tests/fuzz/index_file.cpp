/* A file of the engine: read, mapped or streamed; then every operation on
 * what loads, by the functions of the Python module, which know wrappers as
 * Faiss' own do not (wrapped_index.h). Errors must be faiss::FaissException.
 */

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
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
#include <faiss_ext/python/wrapped_index.h>

#include "sealing.h"

namespace fuzz {

namespace {

namespace python = faiss_ext::python;
using IndexPtr = std::unique_ptr<faiss::Index>;

/// what an operation may cost: d, rows and lists of what is worked on
constexpr int64_t kMostDimensions = 64, kMostRows = 4096;
constexpr size_t kMostLists = 4096;
constexpr int64_t kQueries = 2, kNew = 3;

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
        attempt([&] { python::wrapper_memory(&root_, 100); });
        python::layers(&root_);
        faiss_ext::SearchParametersScaNN usual;
        for (int64_t k : {1, 5, 40}) {
            search(usual, k);
        }
        faiss_ext::SearchParametersScaNN wide;
        faiss_ext::ScaNNSearchStats stats;
        wide.nprobe = scann_.nlist;
        wide.reorder_k = 7 + random_() % 64;
        wide.refine_k = wide.reorder_k + random_() % 64;
        wide.stats = &stats;
        search(wide, 7);
        wide.max_codes = 1 + random_() % 50;
        wide.reorder_k = wide.refine_k = 0;
        search(wide, 2);
        wide.max_codes = 0;
        faiss::IDSelectorRange some(0, 1 + random_() % 40);
        wide.sel = &some;
        search(wide, 3);
        std::vector<int64_t> few = {0, 1, 5, 11, int64_t(random_())};
        faiss::IDSelectorBatch batch(few.size(), few.data());
        wide.sel = &batch;
        search(wide, 3);
        range(usual);
        range(wide);
        wide.sel = nullptr;
        range(wide);
        for (int64_t id : ids()) {
            std::vector<float> row(size_t(root_.d));
            attempt([&] { python::reconstruct(&root_, 1, &id, row.data()); });
        }
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
            attempt([&] { python::merge_from(clone.get(), &root_, 0); });
        } else if (random_() % 2 == 0) {
            attempt([&] {
                python::copy_subset_to(&root_, clone.get(), 0, 0, 1 << 20);
            });
        }
        Operations(*clone, random_()).change();
    }

    void change() {
        using faiss::DirectMap;
        constexpr DirectMap::Type kinds[] = {
                DirectMap::NoMap, DirectMap::Array, DirectMap::Hashtable};
        if (random_() % 2 == 0) {
            attempt([&] {
                python::set_direct_map_type(scann_, kinds[random_() % 3]);
            });
        }
        faiss_ext::SearchParametersScaNN usual;
        std::vector<float> x = rows(kNew, root_);
        std::vector<int64_t> known = ids(), fresh = {1000, 1001, 7000};
        attempt([&] { root_.add(kNew, x.data()); });
        attempt([&] { root_.add_with_ids(kNew, x.data(), fresh.data()); });
        search(usual, 4);
        update(known.data(), 1, x);
        update(fresh.data(), 2, x);
        remove(faiss::IDSelectorBatch(2, known.data()));
        search(usual, 4);
        remove(faiss::IDSelectorRange(3, 9));
        update(known.data() + 2, 1, x);
        attempt([&] {
            const faiss::Index* codec = python::codec(&root_);
            if (!codec->is_trained) { // Faiss loses memory then
                return;
            }
            std::vector<uint8_t> codes(codec->sa_code_size() * kNew);
            codec->sa_encode(kNew, x.data(), codes.data());
            std::vector<float> decoded(size_t(kNew * root_.d));
            codec->sa_decode(kNew, codes.data(), decoded.data());
            python::add_sa_codes(&root_, kNew, codes.data(), nullptr);
        });
        attempt([&] { root_.add(kNew, x.data()); });
        search(usual, 40);
        // hundreds of searches
        if (scann_.ntotal < 200 && random_() % 1024 == 0) {
            std::vector<float> inner = rows(kNew, scann_);
            attempt([&] { scann_.calibrate(0, nullptr, .9f, 2); });
            attempt([&] { scann_.calibrate(kNew, inner.data(), .5f, 1); });
            search(usual, 3);
        }
        attempt([&] { root_.reset(); });
        attempt([&] { root_.add(kNew, x.data()); });
        search(usual, 2);
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

    void update(const int64_t* ids, int64_t n, const std::vector<float>& x) {
        const faiss_ext::TypedRows rows(
                x.data(), faiss_ext::RowType::Float32, size_t(root_.d));
        attempt([&] { python::update_rows(&root_, n, ids, rows); });
    }

    void remove(const faiss::IDSelector& gone) {
        attempt([&] { python::remove_ids(&root_, gone); });
    }

    void search(const faiss_ext::SearchParametersScaNN& parameters, int64_t k) {
        attempt([&] {
            std::vector<float> x = rows(kQueries, root_), found(kQueries * k),
                               made(size_t(kQueries * k * root_.d));
            std::vector<int64_t> labels(kQueries * k);
            python::search(
                    &root_,
                    kQueries,
                    x.data(),
                    k,
                    found.data(),
                    labels.data(),
                    k < 10 ? made.data() : nullptr,
                    parameters);
        });
    }

    void range(const faiss_ext::SearchParametersScaNN& parameters) {
        attempt([&] {
            std::vector<float> x = rows(1, root_);
            faiss::RangeSearchResult result(1);
            python::range_search(&root_, 1, x.data(), 3.f, &result, parameters);
        });
    }

    faiss::Index& root_;
    faiss_ext::IndexIVFScaNN& scann_;
    std::minstd_rand random_;
};

/// A stream of which nobody knows how long it is.
class Pipe : public faiss::IOReader {
 public:
    explicit Pipe(Bytes bytes) : bytes_(bytes) {}
    size_t operator()(void* out, size_t size, size_t count) override {
        size_t items = size == 0 ? 0 : std::min(count, bytes_.size() / size);
        if (items > 0) {
            std::memcpy(out, bytes_.data(), items * size);
        }
        bytes_ = bytes_.subspan(items * size);
        return items;
    }

 private:
    Bytes bytes_;
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

void use(faiss::Index* loaded, uint32_t way, bool checked) {
    IndexPtr index(loaded);
    if (!is_small(*index)) {
        return;
    }
    Operations operations(*index, way);
    // not all of it each time
    switch (way / 5 % 4) {
        case 0:
            operations.look();
            operations.change();
            break;
        case 1:
            operations.look();
            break;
        case 2:
            operations.change();
            break;
        case 3:
            operations.copy(checked);
            break;
    }
}

} // namespace

void index_file(Bytes input) {
    index_file(input, uint32_t(crc32(0, input.data(), uInt(input.size()))));
}

void index_file(Bytes input, uint32_t way) {
    Buffer bytes = sealed(input);
    MemoryLimit limit(bytes.size());
    attempt([&] {
        switch (way % 5) {
            case 0: {
                MemoryFile file(bytes);
                use(faiss_ext::read_index(file.path()), way, true);
                break;
            }
            case 1: {
                MemoryFile file(bytes);
                use(faiss_ext::read_index(
                            file.path(), faiss_ext::ReadMode::Mmap),
                    way,
                    false);
                break;
            }
            case 2: {
                faiss::VectorIOReader reader;
                reader.data = bytes;
                use(faiss_ext::read_index(&reader), way, true);
                break;
            }
            case 3: {
                MemoryFile file(bytes);
                use(faiss_ext::read_index(
                            file.path(), faiss_ext::ReadMode::MmapVerified),
                    way,
                    true);
                break;
            }
            case 4: {
                Pipe reader(bytes);
                use(faiss_ext::read_index(&reader), way, true);
                break;
            }
        }
    });
}

} // namespace fuzz
