/* Small indexes of all kinds, for the tests of files, clones and exports. */

#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>

namespace cases {

using IndexPtr = std::unique_ptr<faiss::Index>;

/// Rows around 24 centres, so that lists and neighbours mean something.
inline std::vector<float> rows(size_t n, size_t d, int seed) {
    std::mt19937 random(99);
    std::normal_distribution<float> normal;
    std::vector<float> centres(24 * d), out(n * d);
    for (float& value : centres) {
        value = 2 * normal(random);
    }
    random.seed(seed);
    for (size_t i = 0; i < n; i++) {
        size_t centre = random() % 24;
        for (size_t j = 0; j < d; j++) {
            out[i * d + j] = centres[centre * d + j] + normal(random);
        }
    }
    return out;
}

struct Case {
    std::string description;
    faiss::MetricType metric = faiss::METRIC_L2;
    faiss::DirectMap::Type map = faiss::DirectMap::NoMap;
    bool add = true;
    bool train = true;
};

inline std::string name_of(const Case& c) {
    return c.description + (c.metric == faiss::METRIC_L2 ? " L2" : " IP");
}

inline void PrintTo(const Case& c, std::ostream* out) {
    *out << name_of(c);
}

inline const std::vector<Case>& all() {
    constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
    constexpr auto L2 = faiss::METRIC_L2;
    constexpr auto array = faiss::DirectMap::Array;
    constexpr auto hashtable = faiss::DirectMap::Hashtable;
    static const std::vector<Case> list = {
            {"IVF16,ScaNN", L2},
            {"IVF16,ScaNN", IP},
            {"IVF16,ScaNN,SQ8", L2, array},
            {"IVF16,ScaNN,SQ8", IP, hashtable},
            {"IVF16,ScaNN,SQfp16", L2},
            {"IVF16,ScaNN,SQbf16", IP},
            {"IVF16,ScaNN,RFlat", L2, hashtable},
            {"IVF16,ScaNN,SQ8,RFlat", IP},
            {"IVF16,ScaNN(normalize=1)", IP},
            {"IVF16,ScaNN(normalize=1),SQ8,RFlat", IP, array},
            {"IVF16,ScaNN(soar_lambda=1.5)", L2},
            {"IVF16,ScaNN(soar_lambda=1,eta=3),SQ8,RFlat", IP, hashtable},
            {"IVF16,ScaNN7x4(rotation=none),RFlat", L2},
            {"IVF16,ScaNN(rotation=balanced,sub_dim=3)", IP},
            {"IVF16,ScaNN9x4,SQ8", IP},
            {"IVF16_HNSW8,ScaNN,SQ8", L2},
            {"ScaNN,RFlat", L2},
            {"IDMap2,IVF16,ScaNN,RFlat", L2},
            {"IDMap,IVF16,ScaNN(soar_lambda=1),SQ8", IP},
            {"PCA12,IVF16,ScaNN,RFlat", L2},
            {"IDMap2,L2norm,IVF16,ScaNN,SQ8", IP},
            {"PCAR10,IVF16,ScaNN", L2},
            {"IVF16,ScaNN,RFlat", L2, array, false},
            {"IVF16,ScaNN(soar_lambda=1),SQ8", IP, hashtable, false, false},
            {"IDMap2,PCA12,ScaNN", L2, faiss::DirectMap::NoMap, false, false},
    };
    return list;
}

constexpr size_t kD = 19;
constexpr size_t kRows = 700;

inline IndexPtr build(const Case& c, size_t n = kRows, size_t d = kD) {
    IndexPtr index(faiss_ext::index_factory(d, c.description, c.metric));
    std::vector<float> x = rows(n, d, 1);
    if (c.train) {
        index->train(n, x.data());
    }
    faiss_ext::find_scann(index.get())->set_direct_map_type(c.map);
    if (c.add) {
        std::vector<int64_t> ids(n);
        for (size_t i = 0; i < n; i++) {
            ids[i] = 3 * i + 5;
        }
        bool own_ids = c.map != faiss::DirectMap::Array;
        index->add_with_ids(n, x.data(), own_ids ? ids.data() : nullptr);
    }
    if (c.train) {
        faiss_ext::find_scann(index.get())->nprobe = 5;
    }
    return index;
}

struct Found {
    std::vector<float> distances;
    std::vector<int64_t> labels;
    bool operator==(const Found&) const = default;
};

inline Found search(const faiss::Index& index, size_t k = 12) {
    constexpr size_t kQueries = 20;
    std::vector<float> queries = rows(kQueries, index.d, 2);
    Found found{
            std::vector<float>(kQueries * k),
            std::vector<int64_t>(kQueries * k)};
    index.search(
            kQueries,
            queries.data(),
            k,
            found.distances.data(),
            found.labels.data());
    return found;
}

/// Same fields, same answers bit for bit, same direct map.
inline void expect_same(const faiss::Index& a, const faiss::Index& b) {
    EXPECT_EQ(typeid(a), typeid(b));
    EXPECT_EQ(a.d, b.d);
    EXPECT_EQ(a.ntotal, b.ntotal);
    EXPECT_EQ(a.is_trained, b.is_trained);
    EXPECT_EQ(a.metric_type, b.metric_type);
    auto sa = faiss_ext::find_scann(&a), sb = faiss_ext::find_scann(&b);
    ASSERT_TRUE(sa != nullptr && sb != nullptr);
    // Faiss reads an IndexFlat as an IndexFlatL2
    auto is_flat = [](const faiss::IndexIVF* index) {
        return dynamic_cast<faiss::IndexFlat*>(index->quantizer) != nullptr;
    };
    EXPECT_EQ(is_flat(sa), is_flat(sb));
    EXPECT_EQ(sa->ntotal, sb->ntotal);
    EXPECT_EQ(sa->nlist, sb->nlist);
    EXPECT_EQ(sa->nprobe, sb->nprobe);
    EXPECT_EQ(sa->max_codes, sb->max_codes);
    EXPECT_EQ(sa->reorder_k, sb->reorder_k);
    EXPECT_EQ(sa->refine_k, sb->refine_k);
    EXPECT_EQ(sa->code_size, sb->code_size);
    EXPECT_EQ(sa->quantizer_trains_alone, sb->quantizer_trains_alone);
    EXPECT_EQ(sa->cp.spherical, sb->cp.spherical);
    EXPECT_EQ(sa->options.eta, sb->options.eta);
    EXPECT_EQ(sa->options.seed, sb->options.seed);
    EXPECT_EQ(sa->options.rotation, sb->options.rotation);
    EXPECT_EQ(sa->direct_map.type, sb->direct_map.type);
    EXPECT_EQ(sa->direct_map.array, sb->direct_map.array);
    EXPECT_EQ(sa->direct_map.hashtable, sb->direct_map.hashtable);
    if (a.is_trained) {
        EXPECT_TRUE(search(a) == search(b));
    }
}

/// A directory that goes away with the test.
class Directory {
 public:
    /// @param memory  thousands of small files: not on the disk, if possible
    explicit Directory(bool memory = false) {
        namespace fs = std::filesystem;
        fs::path parent = "/dev/shm";
        if (!memory || access(parent.c_str(), W_OK) != 0) {
            parent = fs::temp_directory_path();
        }
        std::string pattern = parent / "scann-XXXXXX";
        path_ = mkdtemp(pattern.data());
    }
    ~Directory() {
        std::filesystem::remove_all(path_);
    }
    std::string file(const std::string& name) const {
        return (path_ / name).string();
    }
    size_t files() const {
        auto begin = std::filesystem::directory_iterator(path_);
        return std::distance(begin, std::filesystem::directory_iterator());
    }

 private:
    std::filesystem::path path_;
};

inline std::string read_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), bytes.size());
}

/// What a call throws, or "" if it does not.
template <class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
    return "";
}

} // namespace cases
