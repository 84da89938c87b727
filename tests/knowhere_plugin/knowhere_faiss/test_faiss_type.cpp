/* Knowhere's index type FAISS with libknowhere_faiss_scann.so preloaded:
 * faiss_index_name with ScaNN in it is served by our index, all else by the
 * host. Compared with brute force. */

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <faiss/IndexIVFFlat.h>
#include <faiss/impl/mapped_io.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#include <folly/CancellationToken.h>

#include "common/OpContext.h"
#include "knowhere_plugin/host_index.h"

using namespace host;

namespace {

constexpr size_t kK = 10, kLists = 32;
constexpr char kScann[] = "IVF32,ScaNN,RFlat";

const Data& data() {
    static const Data made(6000, 40, 50);
    return made;
}

Json with(const std::string& name, const std::string& metric = "L2") {
    return {{"metric_type", metric},
            {"faiss_index_name", name},
            {"dim", data().d},
            {"k", kK}};
}

Json all_lists(Json parameters) {
    parameters["nprobe"] = kLists;
    parameters["reorder_k"] = 500;
    return parameters;
}

HostIndex build(const Json& parameters) {
    return built("FAISS", data(), parameters);
}

std::string bytes_of(const HostIndex& index) {
    knowhere::BinarySet set;
    EXPECT_EQ(index.Serialize(set), knowhere::Status::success);
    auto blob = set.GetByName("FAISS");
    return {reinterpret_cast<const char*>(blob->data.get()),
            size_t(blob->size)};
}

knowhere::BinarySet set_of(const std::string& bytes) {
    std::shared_ptr<uint8_t[]> copy(new uint8_t[bytes.size()]);
    std::copy(bytes.begin(), bytes.end(), copy.get());
    knowhere::BinarySet set;
    set.Append("FAISS", copy, int64_t(bytes.size()));
    return set;
}

class Metrics : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(
        All,
        Metrics,
        testing::Values("L2", "IP", "COSINE"),
        [](const auto& info) { return std::string(info.param); });

TEST_P(Metrics, FindsWhatBruteForceFinds) {
    HostIndex index = build(with(kScann, GetParam()));
    EXPECT_EQ(index.Type(), "FAISS");
    EXPECT_EQ(index.Count(), int64_t(data().n));
    EXPECT_EQ(index.Dim(), int64_t(data().d));
    EXPECT_EQ(bytes_of(index).substr(0, 8), "ScaNNidx"); // ours answers
    Found found = search(index, data(), all_lists(with(kScann, GetParam())));
    reference::Hits truth = host::truth(GetParam(), data(), kK);
    EXPECT_EQ(recall(found.ids, truth.labels, kK), 1);
    expect_near(found.distances, truth.distances);
}

TEST_P(Metrics, FilteredRowsAreNotFound) {
    HostIndex index = build(with(kScann, GetParam()));
    for (size_t kept : {2u, 10u, 100u}) { // one of so many rows
        std::vector<uint8_t> bits((data().n + 7) / 8);
        std::vector<int64_t> passing;
        for (size_t i = 0; i < data().n; i++) {
            if (i % kept != 0) {
                bits[i / 8] |= uint8_t(1 << i % 8); // filtered
            } else {
                passing.push_back(int64_t(i));
            }
        }
        faiss::IDSelectorBatch selector(passing.size(), passing.data());
        reference::Hits truth = host::truth(GetParam(), data(), kK, &selector);
        Found found =
                search(index,
                       data(),
                       all_lists(with(kScann, GetParam())),
                       knowhere::BitsetView(bits.data(), data().n));
        EXPECT_EQ(recall(found.ids, truth.labels, kK), 1) << kept;
        expect_near(found.distances, truth.distances);
    }
}

/// As the host's own Flat; neither looks at range_filter.
TEST_P(Metrics, RangesAreComplete) {
    HostIndex index = build(with(kScann, GetParam()));
    HostIndex flat = build(with("Flat", GetParam()));
    // that of the 40th neighbour of the first query
    const float radius = host::truth(GetParam(), data(), 40).distances[39];
    const float doubt = 1e-5f * std::max(1.f, std::abs(radius));
    Json parameters = with("Flat", GetParam());
    parameters["radius"] = radius;
    std::vector<Found> expected = range_search(flat, data(), parameters);
    parameters["nprobe"] = kLists;
    std::vector<Found> found = range_search(index, data(), parameters);
    auto clear_hits = [&](const Found& hits) {
        std::vector<int64_t> ids;
        for (size_t i = 0; i < hits.ids.size(); i++) {
            if (std::abs(hits.distances[i] - radius) > doubt) {
                ids.push_back(hits.ids[i]);
            }
        }
        std::sort(ids.begin(), ids.end());
        return ids;
    };
    for (size_t q = 0; q < data().queries; q++) {
        EXPECT_EQ(clear_hits(found[q]), clear_hits(expected[q])) << q;
    }
    EXPECT_GE(clear_hits(found[0]).size(), 38u);
}

TEST(FaissType, SearchParametersCount) {
    HostIndex index = build(with(kScann));
    reference::Hits truth = host::truth("L2", data(), kK);
    auto recall_with = [&](size_t nprobe, size_t reorder_k) {
        Json parameters = with(kScann);
        parameters["nprobe"] = nprobe;
        parameters["reorder_k"] = std::to_string(reorder_k); // as clients do
        return recall(search(index, data(), parameters).ids, truth.labels, kK);
    };
    EXPECT_LT(recall_with(1, 500), .95);
    EXPECT_LT(recall_with(kLists, kK), .95);
    EXPECT_EQ(recall_with(kLists, 500), 1);
    EXPECT_EQ(recall_with(60000, 500), 1); // all lists
    // without nprobe: what the index was built with
    Json parameters = with(kScann);
    parameters["nprobe"] = kLists;
    HostIndex wide = build(parameters);
    parameters.erase("nprobe");
    parameters["reorder_k"] = 500;
    EXPECT_EQ(
            recall(search(wide, data(), parameters).ids, truth.labels, kK), 1);
}

TEST(FaissType, WrongParametersAreRefused) {
    HostIndex index = build(with(kScann));
    auto refused = [&](const char* key, Json value) {
        Json parameters = with(kScann);
        parameters[key] = value;
        auto result = index.Search(
                data_set(data().queries, data().d, data().query),
                parameters,
                nullptr);
        return result.has_value() ? std::string("found") : result.what();
    };
    EXPECT_NE(refused("reorder_k", 5).find("below k"), std::string::npos);
    EXPECT_NE(refused("nprobe", 0).find("1.."), std::string::npos);
    EXPECT_NE(refused("nprobe", -3).find("1.."), std::string::npos);
    EXPECT_NE(refused("nprobe", 1.5).find("1.."), std::string::npos);
    EXPECT_NE(refused("efSearch", 5).find("not supported"), std::string::npos);
    // ours is no parameter of the host's own indexes
    HostIndex own = build(with("IVF32,Flat"));
    Json parameters = with("IVF32,Flat");
    parameters["reorder_k"] = 100;
    EXPECT_FALSE(own.Search(data_set(data().queries, data().d, data().query),
                            parameters,
                            nullptr)
                         .has_value());
    for (const char* name :
         {"IVF32,ScaNN,Nonsense", "IVF32,ScaNN(eta=-1)", "ScaNN,ScaNN"}) {
        EXPECT_EQ(
                create("FAISS").Build(
                        data_set(data().n, data().d, data().base), with(name)),
                knowhere::Status::invalid_args)
                << name;
    }
}

TEST(FaissType, SerializedIndexesAnswerTheSame) {
    for (const char* name :
         {kScann,
          "ScaNN",
          "IVF32,ScaNN,SQ8",
          "IVF32,ScaNN(soar_lambda=1),RFlat",
          "PCA20,IVF32,ScaNN,RFlat",
          "RR40,IVF32,ScaNN,SQfp16"}) {
        HostIndex index = build(with(name));
        Json parameters = with(name);
        parameters["nprobe"] = 8;
        const Found expected = search(index, data(), parameters);
        const std::string bytes = bytes_of(index);
        EXPECT_EQ(index.Size(), int64_t(bytes.size())) << name;

        HostIndex copy = create("FAISS");
        EXPECT_EQ(
                copy.Deserialize(set_of(bytes), with(name)),
                knowhere::Status::success);
        EXPECT_EQ(copy.Count(), index.Count());
        EXPECT_EQ(search(copy, data(), parameters), expected) << name;

        const std::string path = testing::TempDir() + "faiss_type.index";
        std::ofstream(path, std::ios::binary) << bytes;
        for (bool mmap : {false, true}) {
            Json how = with(name);
            how["enable_mmap"] = mmap;
            HostIndex file = create("FAISS");
            EXPECT_EQ(
                    file.DeserializeFromFile(path, how),
                    knowhere::Status::success);
            std::ifstream maps("/proc/self/maps");
            const std::string mapped(std::istreambuf_iterator<char>(maps), {});
            EXPECT_EQ(mapped.find(path) != std::string::npos, mmap) << name;
            if (mmap) { // as the host does
                std::filesystem::remove(path);
            }
            EXPECT_EQ(search(file, data(), parameters), expected) << name;
            EXPECT_EQ(bytes_of(file), bytes) << name;
        }
    }
}

TEST(FaissType, FiltersPassTransforms) {
    HostIndex index = build(with("PCA40,IVF32,ScaNN,RFlat"));
    std::vector<uint8_t> bits((data().n + 7) / 8, 0xff);
    bits[100] = 0; // rows 800 to 807 pass
    Found found =
            search(index,
                   data(),
                   all_lists(with("PCA40,IVF32,ScaNN,RFlat")),
                   knowhere::BitsetView(bits.data(), data().n));
    for (size_t i = 0; i < found.ids.size(); i++) {
        const int64_t id = found.ids[i];
        EXPECT_TRUE(i % kK < 8 ? id >= 800 && id < 808 : id == -1) << i;
    }
}

TEST(FaissType, DamagedBytesAreRefused) {
    const std::string bytes = bytes_of(build(with(kScann)));
    for (size_t size : {0ul, 3ul, 8ul, 100ul, bytes.size() - 1}) {
        EXPECT_EQ(
                create("FAISS").Deserialize(
                        set_of(bytes.substr(0, size)), with(kScann)),
                knowhere::Status::faiss_inner_error)
                << size;
    }
    for (size_t at : {9ul, 40ul, 3000ul, bytes.size() / 2}) {
        std::string damaged = bytes;
        damaged[at] = char(damaged[at] ^ 0x55);
        EXPECT_EQ(
                create("FAISS").Deserialize(set_of(damaged), with(kScann)),
                knowhere::Status::faiss_inner_error)
                << at;
    }
}

TEST(FaissType, SearchesAtTheSameTimeKeepTheirParameters) {
    HostIndex index = build(with(kScann));
    auto parameters = [](size_t nprobe) {
        Json made = with(kScann);
        made["nprobe"] = nprobe;
        return made;
    };
    const std::vector<size_t> probes = {1, 3, 9, kLists};
    std::vector<Found> expected;
    for (size_t nprobe : probes) {
        expected.push_back(search(index, data(), parameters(nprobe)));
    }
    std::atomic<size_t> same{0};
    std::vector<std::thread> threads;
    for (size_t i = 0; i < probes.size(); i++) {
        threads.emplace_back([&, i] {
            for (int round = 0; round < 10; round++) {
                same += search(index, data(), parameters(probes[i])) ==
                        expected[i];
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(same, 10 * probes.size());
}

TEST(FaissType, CancelledSearchesFail) {
    HostIndex index = build(with(kScann));
    folly::CancellationSource source;
    milvus::OpContext context(source.getToken());
    auto queries = data_set(data().queries, data().d, data().query);
    EXPECT_TRUE(
            index.Search(queries, with(kScann), nullptr, &context).has_value());
    source.requestCancellation();
    EXPECT_FALSE(
            index.Search(queries, with(kScann), nullptr, &context).has_value());
}

TEST(FaissType, TheHostsOwnIndexesAreUntouched) {
    for (const char* name :
         {"Flat", "IVF32,Flat", "IVF32,PQ8x4,RFlat", "HNSW8"}) {
        HostIndex index = build(with(name));
        const std::string bytes = bytes_of(index);
        EXPECT_EQ(bytes.substr(0, 1), "I") << name; // Faiss' codes of files
        // the same as without Knowhere
        std::unique_ptr<faiss::Index> own(
                faiss::index_factory(int(data().d), name, faiss::METRIC_L2));
        own->train(int64_t(data().n), data().base.data());
        own->add(int64_t(data().n), data().base.data());
        faiss::VectorIOWriter writer;
        faiss::write_index(own.get(), &writer);
        EXPECT_EQ(bytes.size(), writer.data.size()) << name;

        const Found expected = search(index, data(), with(name));
        HostIndex copy = create("FAISS");
        EXPECT_EQ(
                copy.Deserialize(set_of(bytes), with(name)),
                knowhere::Status::success);
        EXPECT_EQ(search(copy, data(), with(name)), expected) << name;
        const std::string path = testing::TempDir() + "own.index";
        std::ofstream(path, std::ios::binary) << bytes;
        for (bool mmap : {false, true}) {
            Json how = with(name);
            how["enable_mmap"] = mmap;
            HostIndex file = create("FAISS");
            EXPECT_EQ(
                    file.DeserializeFromFile(path, how),
                    knowhere::Status::success);
            EXPECT_EQ(search(file, data(), with(name)), expected) << name;
        }
    }
    EXPECT_EQ(
            create("FAISS").Build(
                    data_set(data().n, data().d, data().base),
                    with("NotAnIndex")),
            knowhere::Status::invalid_args);
}

/// A reader of a kind that nobody knows.
struct OtherReader : faiss::IOReader {
    std::string bytes;
    size_t at = 0;

    size_t operator()(void* out, size_t size, size_t n) override {
        const size_t items = std::min(n, (bytes.size() - at) / size);
        std::copy_n(bytes.data() + at, items * size, static_cast<char*>(out));
        at += items * size;
        return items;
    }
};

TEST(FaissFunctions, ReadersOfAllKinds) {
    for (const char* name : {kScann, "IVF32,Flat"}) {
        HostIndex index = build(with(name));
        const std::string bytes = bytes_of(index);
        const std::string path = testing::TempDir() + "readers.index";
        std::ofstream(path, std::ios::binary) << "before" << bytes;
        auto expect_read = [&](faiss::IOReader& reader, const char* kind) {
            std::unique_ptr<faiss::Index> read(faiss::read_index(&reader));
            EXPECT_EQ(read->ntotal, int64_t(data().n)) << name << " " << kind;
            EXPECT_EQ(
                    dynamic_cast<faiss::IndexIVFFlat*>(read.get()) != nullptr,
                    name != std::string(kScann));
        };
        char before[6];
        faiss::VectorIOReader vector;
        vector.data.assign(bytes.begin(), bytes.end());
        expect_read(vector, "vector");
        faiss::FileIOReader file(path.c_str());
        file(before, 1, 6);
        expect_read(file, "file");
        OtherReader other;
        other.bytes = bytes;
        expect_read(other, "other");
        std::unique_ptr<FILE, int (*)(FILE*)> pipe(
                popen(("tail -c +7 " + path).c_str(), "r"), pclose);
        faiss::FileIOReader piped(pipe.get());
        expect_read(piped, "pipe");
        // by path and FILE, too
        std::ofstream(path, std::ios::binary) << bytes;
        std::unique_ptr<faiss::Index> by_path(faiss::read_index(path.c_str()));
        EXPECT_EQ(by_path->ntotal, int64_t(data().n));
        faiss::write_index(by_path.get(), path.c_str());
        std::ifstream again(path, std::ios::binary);
        EXPECT_EQ(
                std::string(std::istreambuf_iterator<char>(again), {}), bytes);
    }
}

} // namespace
