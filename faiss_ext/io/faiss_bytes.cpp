#include <faiss_ext/io/faiss_bytes.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include <faiss/IndexIVFPQ.h>
#include <faiss/impl/FaissException.h>
#include <faiss/index_io.h>

#include <faiss_ext/io/faiss_byte_cursor.h>
#include <faiss_ext/io/faiss_bytes_parts.h>

namespace faiss_ext {

namespace {

/// wrappers around wrappers, and transforms in a chain
constexpr size_t kMaxParts = 64;

struct KindName {
    FaissKind kind;
    const char* code;
    const char* name;
};

constexpr KindName kKinds[] = {
        {FaissKind::Flat, "IxF2", "IndexFlat"},
        {FaissKind::Flat, "IxFI", "IndexFlat"},
        {FaissKind::ScalarQuantizer, "IxSQ", "IndexScalarQuantizer"},
        {FaissKind::PQ, "IxPq", "IndexPQ"},
        {FaissKind::HNSWFlat, "IHNf", "IndexHNSWFlat"},
        {FaissKind::HNSWSQ, "IHNs", "IndexHNSWSQ"},
        {FaissKind::HNSWPQ, "IHNp", "IndexHNSWPQ"},
        {FaissKind::IVFFlat, "IwFl", "IndexIVFFlat"},
        {FaissKind::IVFPQ, "IwPQ", "IndexIVFPQ"},
        {FaissKind::IDMap, "IxMp", "IndexIDMap"},
        {FaissKind::IDMap2, "IxM2", "IndexIDMap2"},
        {FaissKind::PreTransform, "IxPT", "IndexPreTransform"},
};

const char* name_of(faiss::MetricType metric) {
    return metric == faiss::METRIC_INNER_PRODUCT ? "inner product" : "L2";
}

/// One walk over the bytes of an index.
class IndexChecker {
 public:
    explicit IndexChecker(std::span<const uint8_t> bytes)
            : cursor_(bytes), size_(bytes.size()) {}

    FaissContents check(const FaissExpected& expected);

 private:
    using Kinds = std::vector<FaissKind>;

    FaissContents index(const Kinds& allowed);
    const KindName& known_kind(const Kinds& allowed);
    FaissContents header(const KindName& kind);
    void check_part(
            const char* what,
            const FaissContents& part,
            const FaissContents& whole);

    void flat(const FaissContents& whole);
    void scalar_quantizer(const FaissContents& whole);
    void pq(const FaissContents& whole);
    void hnsw(const FaissContents& whole, FaissKind storage);
    void ivf(const FaissContents& whole);
    void id_map(const FaissContents& whole, const Kinds& allowed);
    void pre_transform(const FaissContents& whole, const Kinds& allowed);

    FaissByteCursor cursor_;
    uint64_t size_;   ///< of all bytes
    PQShape last_pq_; ///< of a graph's storage
};

const KindName& IndexChecker::known_kind(const Kinds& allowed) {
    auto is_allowed = [&](FaissKind kind) {
        return std::find(allowed.begin(), allowed.end(), kind) != allowed.end();
    };
    std::string code = cursor_.get_code();
    std::string known;
    for (const KindName& kind : kKinds) {
        if (!is_allowed(kind.kind)) {
            continue;
        }
        if (code == kind.code) {
            return kind;
        }
        if (known.find(kind.name) == std::string::npos) {
            known += (known.empty() ? "" : ", ") + std::string(kind.name);
        }
    }
    std::string what = "a kind of index that is not read here";
    for (const KindName& kind : kKinds) {
        if (code == kind.code) {
            what = kind.name;
        }
    }
    cursor_.fail(
            "\"" + code + "\" is " + what + " (allowed here: " + known + ")");
}

FaissContents IndexChecker::header(const KindName& kind) {
    FaissContents found;
    found.kind = kind.kind;
    // the products of both, in bits, do not overflow
    constexpr int64_t kMaxRows = int64_t(1) << 40;
    found.d = cursor_.get_in<int32_t>("d", 1, kMaxDimensions);
    found.ntotal = cursor_.get_in<int64_t>("ntotal", 0, kMaxRows);
    cursor_.get<int64_t>("unused");
    cursor_.get<int64_t>("unused");
    found.is_trained = cursor_.get_flag("is_trained");
    found.metric = faiss::MetricType(cursor_.get_in<int32_t>(
            "metric_type", faiss::METRIC_INNER_PRODUCT, faiss::METRIC_L2));
    if (!found.is_trained) {
        cursor_.check_is(
                "ntotal of an untrained index", found.ntotal, int64_t(0));
    }
    return found;
}

void IndexChecker::check_part(
        const char* what,
        const FaissContents& part,
        const FaissContents& whole) {
    FaissByteCursor::Part place(cursor_, what);
    cursor_.check_is("ntotal", part.ntotal, whole.ntotal);
    cursor_.check_is("metric_type", int(part.metric), int(whole.metric));
}

FaissContents IndexChecker::index(const Kinds& allowed) {
    const KindName& kind = known_kind(allowed);
    FaissByteCursor::Part part(cursor_, kind.name);
    if (cursor_.depth() > kMaxParts) {
        throw faiss::FaissException(
                "indexes in indexes, more than " + std::to_string(kMaxParts) +
                " deep");
    }
    FaissContents whole = header(kind);
    switch (kind.kind) {
        case FaissKind::Flat:
            cursor_.check_is(
                    "metric_type",
                    int(whole.metric),
                    kind.code[3] == 'I' ? int(faiss::METRIC_INNER_PRODUCT)
                                        : int(faiss::METRIC_L2));
            flat(whole);
            break;
        case FaissKind::ScalarQuantizer:
            scalar_quantizer(whole);
            break;
        case FaissKind::PQ:
            pq(whole);
            break;
        case FaissKind::HNSWFlat:
            hnsw(whole, FaissKind::Flat);
            break;
        case FaissKind::HNSWSQ:
            hnsw(whole, FaissKind::ScalarQuantizer);
            break;
        case FaissKind::HNSWPQ:
            hnsw(whole, FaissKind::PQ);
            break;
        case FaissKind::IVFFlat:
        case FaissKind::IVFPQ:
            ivf(whole);
            break;
        case FaissKind::IDMap:
        case FaissKind::IDMap2:
            id_map(whole, allowed);
            break;
        case FaissKind::PreTransform:
            pre_transform(whole, allowed);
            break;
    }
    return whole;
}

void IndexChecker::flat(const FaissContents& whole) {
    cursor_.check_is("is_trained", int(whole.is_trained), 1);
    uint64_t n = uint64_t(whole.ntotal * whole.d);
    cursor_.skip_float_vector("vectors", n, n);
}

void IndexChecker::scalar_quantizer(const FaissContents& whole) {
    uint64_t code_size =
            check_scalar_quantizer(cursor_, whole.d, whole.is_trained);
    cursor_.vector<uint8_t>("codes", uint64_t(whole.ntotal) * code_size);
}

void IndexChecker::pq(const FaissContents& whole) {
    last_pq_ = check_product_quantizer(cursor_, whole.d);
    cursor_.vector<uint8_t>(
            "codes", uint64_t(whole.ntotal) * last_pq_.code_size());
    // other search types use tables that the bytes do not contain
    cursor_.check_is("search_type", cursor_.get<int32_t>("search_type"), 0);
    cursor_.get_flag("encode_signs");
    cursor_.get<int32_t>("polysemous_ht");
}

void IndexChecker::hnsw(const FaissContents& whole, FaissKind storage) {
    cursor_.check_in<int64_t>(
            "ntotal", whole.ntotal, 0, std::numeric_limits<int32_t>::max());
    check_graph(cursor_, whole.ntotal);
    FaissContents rows;
    {
        FaissByteCursor::Part part(cursor_, "storage");
        rows = index({storage});
        cursor_.check_is("d", rows.d, whole.d);
        cursor_.check_is("is_trained", rows.is_trained, whole.is_trained);
    }
    check_part("storage", rows, whole);
    if (storage == FaissKind::PQ) {
        // Faiss makes a table of the distances of all pairs of centroids:
        // 32 MB, or as much as the bytes
        const uint64_t most_pairs =
                std::max<uint64_t>(1 << 23, size_ / sizeof(float));
        cursor_.check_in(
                "M * 2^(2 * nbits) of the storage",
                last_pq_.M << 2 * last_pq_.nbits,
                uint64_t(0),
                most_pairs);
    }
}

void IndexChecker::ivf(const FaissContents& whole) {
    constexpr uint64_t kMaxLists = std::numeric_limits<int32_t>::max();
    cursor_.check_is("is_trained", int(whole.is_trained), 1);
    uint64_t nlist = cursor_.get_in<uint64_t>("nlist", 1, kMaxLists);
    cursor_.get_in<uint64_t>("nprobe", 1, std::numeric_limits<uint64_t>::max());
    {
        FaissByteCursor::Part part(cursor_, "quantizer");
        FaissContents centroids = index({FaissKind::Flat});
        cursor_.check_is("d", centroids.d, whole.d);
        cursor_.check_is("ntotal", centroids.ntotal, int64_t(nlist));
        cursor_.check_is(
                "metric_type", int(centroids.metric), int(whole.metric));
    }
    // no node has one
    cursor_.check_is("direct_map", int(cursor_.get<uint8_t>("direct_map")), 0);
    cursor_.vector<int64_t>("direct_map.array", 0);
    if (whole.kind == FaissKind::IVFFlat) {
        check_inverted_lists(
                cursor_,
                nlist,
                uint64_t(whole.d) * sizeof(float),
                whole.ntotal,
                true);
        return;
    }
    cursor_.get_flag("by_residual");
    uint64_t code_size = cursor_.get<uint64_t>("code_size");
    PQShape shape = check_product_quantizer(cursor_, whole.d);
    cursor_.check_is("code_size", code_size, shape.code_size());
    check_inverted_lists(cursor_, nlist, code_size, whole.ntotal, false);
}

void IndexChecker::id_map(const FaissContents& whole, const Kinds& allowed) {
    FaissContents inner = index(allowed);
    cursor_.check_is("d of the index inside", inner.d, whole.d);
    check_part("the index inside", inner, whole);
    cursor_.vector<int64_t>("id_map", uint64_t(whole.ntotal));
}

void IndexChecker::pre_transform(
        const FaissContents& whole,
        const Kinds& allowed) {
    int length = cursor_.get_in<int32_t>("length of chain", 0, kMaxParts);
    int64_t d = whole.d;
    for (int i = 0; i < length; i++) {
        TransformShape transform = check_transform(cursor_);
        cursor_.check_is("d_in of a transform", transform.d_in, d);
        if (whole.is_trained && !transform.is_trained) {
            cursor_.fail("a transform is not trained, but the index is");
        }
        d = transform.d_out;
    }
    FaissContents inner = index(allowed);
    cursor_.check_is("d of the index inside", inner.d, d);
    check_part("the index inside", inner, whole);
}

FaissContents IndexChecker::check(const FaissExpected& expected) {
    FaissContents found = index(expected.kinds);
    cursor_.finish();
    if (expected.metric && *expected.metric != found.metric) {
        cursor_.fail(
                std::string("its metric is ") + name_of(found.metric) +
                " (expected: " + name_of(*expected.metric) + ")");
    }
    if (expected.d) {
        cursor_.check_is("its dimension", found.d, *expected.d);
    }
    if (expected.ntotal) {
        cursor_.check_is("its number of rows", found.ntotal, *expected.ntotal);
    }
    if (expected.is_trained) {
        cursor_.check_is(
                "is_trained", int(found.is_trained), int(*expected.is_trained));
    }
    return found;
}

/** Faiss' own limit is 2 GB, whatever the bytes. Nodes keep at least 39 rows a
 * list, so that the table has at most 24 times their bytes. More than 192 MB
 * only in blobs of some size: a load takes at most 256 MB and 8 times its
 * bytes. */
void add_table(faiss::IndexIVFPQ& index, size_t bytes) {
    constexpr size_t kMega = size_t(1) << 20;
    const size_t limit =
            std::max(64 * kMega, std::min(24 * bytes, 192 * kMega + 6 * bytes));
    size_t table = index.nlist * index.pq.M * index.pq.ksub * sizeof(float);
    if (table <= limit) {
        index.precompute_table();
    }
}

} // namespace

FaissContents check_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected) {
    return IndexChecker(bytes).check(expected);
}

std::unique_ptr<faiss::Index> read_faiss_bytes(
        std::span<const uint8_t> bytes,
        const FaissExpected& expected) {
    check_faiss_bytes(bytes, expected);
    SpanReader reader(bytes);
    std::unique_ptr<faiss::Index> index(
            faiss::read_index(&reader, faiss::IO_FLAG_SKIP_PRECOMPUTE_TABLE));
    if (auto ivf_pq = dynamic_cast<faiss::IndexIVFPQ*>(index.get())) {
        add_table(*ivf_pq, bytes.size());
    }
    return index;
}

size_t SpanReader::operator()(void* out, size_t size, size_t count) {
    size_t items = size == 0 ? 0 : std::min(count, bytes_.size() / size);
    if (items != 0) {
        std::memcpy(out, bytes_.data(), items * size);
    }
    bytes_ = bytes_.subspan(items * size);
    return items;
}

} // namespace faiss_ext
