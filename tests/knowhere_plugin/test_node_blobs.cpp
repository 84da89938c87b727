/* Blobs of the nodes as others may have made them, behind a right checksum:
 * refused, and then the node is as before, or loaded into a node that is safe
 * to use. */

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include <faiss/IndexHNSW.h>
#include <faiss/IndexIVF.h>
#include <faiss/impl/io.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <gtest/gtest.h>

#include <knowhere_plugin/index_factory.h>

#include "fixtures/hostile_bytes.h"
#include "fixtures/random_rows.h"

using namespace knowhere_plugin;
using hostile::Bytes;

namespace {

constexpr int64_t kDim = 4, kRows = 90, kLongest = 300;
constexpr size_t kHeader = 48;

[[maybe_unused]] const bool one_thread = (omp_set_num_threads(1), true);

const std::vector<float>& data() {
    static const std::vector<float> rows =
            random_rows::clustered(kLongest, kDim, {10, 11}, 11);
    return rows;
}

DataSet rows(int64_t n, int64_t d = kDim) {
    return {n, d, data().data()};
}

/// As node_blob.cpp writes it.
struct Header {
    char magic[8];
    uint32_t version;
    uint32_t metric;
    char type[16];
    uint64_t size;
    uint64_t checksum;
};
static_assert(sizeof(Header) == kHeader);

uint64_t mix(uint64_t hash, const uint8_t* bytes, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        std::memcpy(&word, bytes + i, std::min<size_t>(8, size - i));
        hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
        hash ^= hash >> 29;
    }
    return hash;
}

/// Makes size and checksum right again.
void seal(Bytes& blob) {
    if (blob.size() < kHeader) {
        return;
    }
    Header header;
    std::memcpy(&header, blob.data(), kHeader);
    header.size = blob.size() - kHeader;
    header.checksum = 0;
    uint64_t hash = mix(0, reinterpret_cast<uint8_t*>(&header), kHeader);
    header.checksum = mix(hash, blob.data() + kHeader, header.size);
    std::memcpy(blob.data(), &header, kHeader);
}

Bytes blob_around(const std::string& type, uint32_t metric, const Bytes& body) {
    Header header{};
    std::memcpy(header.magic, "KnPlugin", 8);
    header.version = 1;
    header.metric = metric;
    type.copy(header.type, sizeof(header.type) - 1);
    Bytes blob(kHeader + body.size());
    std::memcpy(blob.data(), &header, kHeader);
    std::copy(body.begin(), body.end(), blob.begin() + kHeader);
    seal(blob);
    return blob;
}

Bytes faiss_bytes(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    return writer.data;
}

NodePtr create(const std::string& type) {
    return IndexFactory::Instance().Create(type).value();
}

Config config_of(const std::string& type, const std::string& metric) {
    Config config = {{"metric_type", metric}};
    if (type == "IVF_PQ") {
        config["m"] = "2";
        config["nbits"] = "4";
    } else if (type == "HNSW") {
        config["M"] = "2"; // half of the rows are on a second level
    }
    return config;
}

NodePtr
build(const std::string& type, const std::string& metric, int64_t n = kRows) {
    NodePtr node = create(type);
    Status status = node->Build(rows(n), config_of(type, metric));
    EXPECT_TRUE(status.ok()) << status.message;
    return node;
}

/// All that a host does with a node.
void use(IndexNode& node, const std::string& metric) {
    const int64_t d = node.Dim(), n = node.Count();
    ASSERT_GE(d, 1);
    std::vector<float> x(3 * d, .5f);
    DataSet queries{3, d, x.data()};
    std::vector<uint8_t> bits((n + 7) / 8, 0x55);
    for (BitsetView filter :
         {BitsetView(), BitsetView(bits.data(), size_t(n))}) {
        auto found = node.Search(queries, {{"k", "5"}}, filter);
        for (int64_t i = 0; found.ok() && i < 15; i++) {
            int64_t id = found.value().ids[i];
            ASSERT_TRUE(id >= -1 && id < n) << id;
        }
        node.RangeSearch(
                queries, {{"radius", metric == "L2" ? "1" : "0.5"}}, filter);
        auto iterators = node.AnnIterator(queries, {}, filter);
        if (!iterators.ok()) {
            continue;
        }
        for (auto& iterator : iterators.value()) {
            for (int i = 0; i < 20; i++) {
                auto more = iterator->HasNext();
                if (!more.ok() || !more.value()) {
                    break;
                }
                iterator->Next();
            }
        }
    }
    if (n > 0) {
        int64_t ids[] = {0, n - 1, n / 2};
        DataSet wanted;
        wanted.rows = 3;
        wanted.ids = ids;
        node.GetVectorByIds(wanted);
    }
    node.Size();
    auto blob = node.Serialize();
    ASSERT_TRUE(blob.ok()) << blob.status().message;
    ASSERT_TRUE(create(node.Type())->Deserialize(blob.value(), {}).ok());
    if (node.Add(queries, {}).ok()) {
        node.Search(queries, {{"k", "5"}}, {});
        ASSERT_EQ(node.Count(), n + 3);
    }
}

struct Case {
    const char* type;
    const char* metric;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.type << " " << c.metric;
}

class NodeBlobs : public testing::TestWithParam<Case> {};

std::vector<int64_t> answers(const IndexNode& node) {
    auto found = node.Search(rows(5), {{"k", "4"}}, {});
    EXPECT_TRUE(found.ok());
    return {found.value().ids, found.value().ids + 20};
}

TEST_P(NodeBlobs, NoChangeCrashesOrTouchesTheOldState) {
    const std::string type = GetParam().type;
    const std::string metric = GetParam().metric;
    const Bytes blob = build(type, metric, 40)->Serialize().value();
    const Bytes body(blob.begin() + kHeader, blob.end());
    uint32_t number;
    std::memcpy(&number, blob.data() + 12, sizeof(number));

    NodePtr old = build(type, metric);
    const std::vector<int64_t> before = answers(*old);
    NodePtr node = old;
    size_t refused = 0, read = 0;
    constexpr unsigned kOneOf = 10;
    hostile::for_each_change(
            body,
            [&](const Bytes& changed) {
                const Bytes sealed = blob_around(type, number, changed);
                hostile::largest_allocation = 0;
                Status status = node->Deserialize(sealed, {});
                ASSERT_LE(hostile::largest_allocation, 1000 + 64 * blob.size());
                if (!status.ok()) {
                    ASSERT_EQ(status.code, StatusCode::invalid_binary_set)
                            << status.message;
                    refused++;
                    ASSERT_EQ(node->Count(), kRows);
                    return;
                }
                read++;
                ASSERT_NO_FATAL_FAILURE(use(*node, metric));
                node = build(type, metric);
            },
            kOneOf);
    EXPECT_GT(refused, body.size() / kOneOf);
    EXPECT_GT(read, 10u);
    EXPECT_EQ(answers(*node), before);
}

// The header before Faiss' bytes.
TEST_P(NodeBlobs, AHeaderOfAnotherKindIsRefused) {
    const auto& [type, metric] = GetParam();
    NodePtr node = build(type, metric);
    const Bytes blob = node->Serialize().value();
    const std::vector<int64_t> before = answers(*node);
    for (size_t at = 0; at < kHeader; at++) {
        for (int value : {0, 1, 2, 3, 127, 255}) {
            Bytes changed = blob;
            changed[at] = uint8_t(value);
            ASSERT_EQ(node->Deserialize(changed, {}).ok(), changed == blob);
            // size and checksum are made again; COSINE is inner product too
            seal(changed);
            Status status = node->Deserialize(changed, {});
            bool same_metric = at == 12 && value < 3 &&
                               (value == 0) == (std::string(metric) == "L2");
            ASSERT_EQ(status.ok(), changed == blob || at >= 32 || same_metric)
                    << at << ", " << value << ": " << status.message;
            if (status.ok()) {
                ASSERT_TRUE(node->Deserialize(blob, {}).ok());
            }
        }
    }
    for (size_t size = 0; size < blob.size(); size++) {
        Bytes cut(blob.begin(), blob.begin() + size);
        ASSERT_FALSE(node->Deserialize(cut, {}).ok());
        seal(cut);
        ASSERT_FALSE(node->Deserialize(cut, {}).ok()) << size;
    }
    ASSERT_FALSE(node->Deserialize({}, {}).ok());
    EXPECT_EQ(answers(*node), before);
}

INSTANTIATE_TEST_SUITE_P(
        All,
        NodeBlobs,
        testing::Values(
                Case{"FLAT", "L2"},
                Case{"FLAT", "COSINE"},
                Case{"IVF_FLAT", "L2"},
                Case{"IVF_FLAT", "IP"},
                Case{"IVF_PQ", "L2"},
                Case{"IVF_PQ", "IP"},
                Case{"HNSW", "L2"},
                Case{"HNSW", "IP"}),
        [](const auto& info) {
            return std::string(info.param.type) + "_" + info.param.metric;
        });

// ---- all pairs of node and class ----

TEST(NodeBlobsConfusion, AnotherClassOrMetricIsRefused) {
    struct Kind {
        const char* description;
        const char* type; ///< of the node that it belongs to
    };
    const Kind kinds[] = {
            {"Flat", "FLAT"},
            {"IVF4,Flat", "IVF_FLAT"},
            {"IVF4,PQ2x4np", "IVF_PQ"},
            {"HNSW8,Flat", "HNSW"},
            {"HNSW8,SQ8", ""},
            {"SQ8", ""},
            {"PQ2x4np", ""},
            {"IVF4,SQ8", ""},
            {"IVF4,PQ4x4fs", ""},
            {"PCA2,Flat", ""},
            {"L2norm,Flat", ""},
            {"IDMap,Flat", ""},
            {"IDMap2,IVF4,Flat", ""},
            {"PQ2x4np,RFlat", ""},
            {"LSH", ""}};
    for (auto metric : {faiss::METRIC_L2, faiss::METRIC_INNER_PRODUCT}) {
        for (const Kind& kind : kinds) {
            if (std::string(kind.description) == "LSH" &&
                metric != faiss::METRIC_L2) {
                continue; // Faiss has none
            }
            std::unique_ptr<faiss::Index> index(
                    faiss::index_factory(kDim, kind.description, metric));
            index->train(kLongest, data().data());
            if (std::string(kind.description).find("IDMap") ==
                std::string::npos) {
                index->add(kRows, data().data());
            }
            const Bytes body = faiss_bytes(*index);
            for (const char* type : {"FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"}) {
                NodePtr node = build(type, "L2");
                for (uint32_t number : {0, 1, 2, 3}) {
                    Status status =
                            node->Deserialize(blob_around(type, number, body));
                    bool fits = std::string(type) == kind.type && number < 3 &&
                                (number == 0) == (metric == faiss::METRIC_L2);
                    EXPECT_EQ(status.ok(), fits)
                            << type << " <- " << kind.description << ", "
                            << number << ": " << status.message;
                    if (!fits) {
                        EXPECT_EQ(node->Count(), kRows);
                    } else {
                        const char* names[] = {"L2", "IP", "COSINE"};
                        use(*node, names[number]);
                        node = build(type, "L2");
                    }
                }
            }
        }
    }
}

TEST(NodeBlobsConfusion, AnotherDimensionInsideIsRefused) {
    for (const char* description : {"IVF4,Flat", "HNSW8,Flat"}) {
        std::unique_ptr<faiss::Index> index(
                faiss::index_factory(kDim, description));
        std::unique_ptr<faiss::Index> other(
                faiss::index_factory(kDim + 1, description));
        for (faiss::Index* at : {index.get(), other.get()}) {
            at->train(60, data().data());
            at->add(50, data().data());
        }
        std::string type = "IVF_FLAT";
        if (auto ivf = dynamic_cast<faiss::IndexIVF*>(index.get())) {
            std::swap(
                    ivf->quantizer,
                    dynamic_cast<faiss::IndexIVF&>(*other).quantizer);
        } else {
            type = "HNSW";
            std::swap(
                    dynamic_cast<faiss::IndexHNSW&>(*index).storage,
                    dynamic_cast<faiss::IndexHNSW&>(*other).storage);
        }
        NodePtr node = create(type);
        Status status =
                node->Deserialize(blob_around(type, 0, faiss_bytes(*index)));
        EXPECT_EQ(status.code, StatusCode::invalid_binary_set);
        EXPECT_NE(status.message.find("d = 5 (allowed: 4)"), std::string::npos)
                << status.message;
    }
}

// ---- found by a fuzzer ----

TEST(NodeBlobsFound, AreRefused) {
    for (const char* name :
         {"add_links_starting",
          "avx512_products",
          "get_nvertedistcanner",
          "graph_searchcpp103",
          "graph_searchcpp47",
          "graph_searchcpp65"}) {
        std::ifstream file(
                std::string(FAISS_EXT_TEST_DATA "/damaged/blob_") + name +
                        ".bin",
                std::ios::binary);
        // type and metric, then Faiss' bytes
        Bytes found{std::istreambuf_iterator<char>(file), {}};
        ASSERT_GT(found.size(), 100u) << name;
        const char* types[] = {"FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"};
        const std::string type = types[found[0]];
        Bytes body(found.begin() + 2, found.end());
        NodePtr node = create(type);
        Status status =
                node->Deserialize(blob_around(type, found[1], body), {});
        EXPECT_EQ(status.code, StatusCode::invalid_binary_set)
                << name << ": " << status.message;
        std::cout << name << ": " << status.message << std::endl;
        EXPECT_EQ(node->Count(), 0);
    }
}

} // namespace
