/* Indexes of Faiss become ScaNN indexes with the same centroids, lists and ids. */

#include <algorithm>
#include <filesystem>
#include <set>

#include <unistd.h>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexIVF.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/IndexRefine.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>

#include "fixtures/failing_memory.h"
#include "fixtures/index_cases.h"

using namespace cases;

namespace {

constexpr size_t kN = 1200;

const faiss::IndexIVF* ivf_in(const faiss::Index* index) {
    while (true) {
        if (auto map = dynamic_cast<const faiss::IndexIDMap*>(index)) {
            index = map->index;
        } else if (
                auto refine = dynamic_cast<const faiss::IndexRefine*>(index)) {
            index = refine->base_index;
        } else if (
                auto pre =
                        dynamic_cast<const faiss::IndexPreTransform*>(index)) {
            index = pre->index;
        } else {
            return dynamic_cast<const faiss::IndexIVF*>(index);
        }
    }
}

std::vector<std::set<int64_t>> lists_of(const faiss::Index* index) {
    const faiss::IndexIVF* ivf = ivf_in(index);
    std::vector<std::set<int64_t>> lists(ivf->nlist);
    for (size_t l = 0; l < ivf->nlist; l++) {
        const size_t size = ivf->invlists->list_size(l);
        if (size > 0) {
            faiss::InvertedLists::ScopedIds ids(ivf->invlists, l);
            lists[l].insert(ids.get(), ids.get() + size);
        }
    }
    return lists;
}

std::vector<float> centroids_of(const faiss::Index* index) {
    const faiss::IndexIVF* ivf = ivf_in(index);
    std::vector<float> centroids(ivf->nlist * size_t(ivf->d));
    ivf->quantizer->reconstruct_n(0, int64_t(ivf->nlist), centroids.data());
    return centroids;
}

IndexPtr plain_index(const char* description, faiss::MetricType metric) {
    IndexPtr index(faiss::index_factory(kD, description, metric));
    const std::vector<float> x = rows(kN, kD, 1);
    index->train(kN, x.data());
    if (dynamic_cast<faiss::IndexIDMap*>(index.get()) != nullptr) {
        std::vector<int64_t> ids(kN);
        for (size_t i = 0; i < kN; i++) {
            ids[i] = int64_t(7 * i + 3);
        }
        index->add_with_ids(kN, x.data(), ids.data());
    } else {
        index->add(kN, x.data());
    }
    return index;
}

std::vector<uint8_t> plain_bytes(const faiss::Index& index) {
    faiss::VectorIOWriter writer;
    faiss::write_index(&index, &writer);
    return writer.data;
}

std::string refusal(const faiss::Index& index, const char* description = "") {
    faiss_ext::FaissImport how;
    how.description = description;
    try {
        IndexPtr(faiss_ext::import_from_faiss(&index, how));
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
    return "";
}

TEST(ImportFromFaiss, CentroidsAndListsAreTheSame) {
    for (const char* description :
         {"IVF16,Flat", "IVF16_HNSW8,Flat", "IVF16,PQ19x4np", "IVF16,SQ8"}) {
        for (auto metric : {faiss::METRIC_L2, faiss::METRIC_INNER_PRODUCT}) {
            IndexPtr plain = plain_index(description, metric);
            IndexPtr index(faiss_ext::import_from_faiss(plain.get()));
            ASSERT_NE(nullptr, faiss_ext::find_scann(index.get()));
            EXPECT_EQ(metric, index->metric_type);
            EXPECT_EQ(plain->ntotal, index->ntotal);
            EXPECT_EQ(lists_of(plain.get()), lists_of(index.get()))
                    << description;
            EXPECT_EQ(centroids_of(plain.get()), centroids_of(index.get()))
                    << description;
        }
    }
}

TEST(ImportFromFaiss, IdsOfAMapGoIntoTheLists) {
    for (const char* description : {"IDMap,IVF16,Flat", "IDMap2,IVF16,Flat"}) {
        IndexPtr plain = plain_index(description, faiss::METRIC_L2);
        IndexPtr index(faiss_ext::import_from_faiss(plain.get()));
        std::set<int64_t> ids;
        for (const std::set<int64_t>& list : lists_of(index.get())) {
            ids.insert(list.begin(), list.end());
        }
        EXPECT_EQ(kN, ids.size());
        EXPECT_EQ(3, *ids.begin());
        EXPECT_EQ(int64_t(7 * (kN - 1) + 3), *ids.rbegin());
        const auto type = faiss_ext::find_scann(index.get())->direct_map.type;
        EXPECT_EQ(
                std::string(description).starts_with("IDMap2")
                        ? faiss::DirectMap::Hashtable
                        : faiss::DirectMap::NoMap,
                type);
    }
}

TEST(ImportFromFaiss, BytesFilesAndIndexesGiveTheSame) {
    IndexPtr plain = plain_index("IVF16,Flat", faiss::METRIC_L2);
    faiss::VectorIOWriter writer;
    faiss::write_index(plain.get(), &writer);
    const std::string path = (std::filesystem::temp_directory_path() /
                              ("import-" + std::to_string(getpid()) + ".faiss"))
                                     .string();
    faiss::write_index(plain.get(), path.c_str());
    IndexPtr a(faiss_ext::import_from_faiss(plain.get()));
    IndexPtr b(faiss_ext::import_from_faiss(path));
    IndexPtr c(faiss_ext::import_from_faiss(
            writer.data.data(), writer.data.size()));
    std::filesystem::remove(path);
    const std::vector<float> q = rows(20, kD, 2);
    std::vector<int64_t> found[3];
    for (size_t i = 0; i < 3; i++) {
        found[i].resize(20 * 5);
        std::vector<float> distances(20 * 5);
        (i == 0   ? a
         : i == 1 ? b
                  : c)
                ->search(20, q.data(), 5, distances.data(), found[i].data());
    }
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(found[0], found[2]);
}

TEST(ImportFromFaiss, SaysWhatIsLost) {
    std::vector<std::string> notes;
    IndexPtr(faiss_ext::import_from_faiss(
            plain_index("IVF16,Flat", faiss::METRIC_L2).get(), {}, &notes));
    EXPECT_TRUE(notes.empty());
    IndexPtr(faiss_ext::import_from_faiss(
            plain_index("IVF16,PQ19x4np", faiss::METRIC_L2).get(), {}, &notes));
    ASSERT_EQ(1u, notes.size());
    EXPECT_NE(std::string::npos, notes[0].find("IndexIVFPQ"));
}

TEST(ImportFromFaiss, RefusesWithAReason) {
    faiss::IndexFlatL2 quantizer(kD);
    faiss::IndexIVFFlat untrained(&quantizer, kD, 16);
    EXPECT_NE(std::string::npos, refusal(untrained).find("not trained"));
    faiss::IndexFlatL2 empty(kD);
    EXPECT_NE(std::string::npos, refusal(empty).find("no rows"));
    IndexPtr plain = plain_index("IVF16,Flat", faiss::METRIC_L2);
    EXPECT_NE(std::string::npos, refusal(*plain, "IVF8,ScaNN").find("IVF16"));
    EXPECT_NE(
            std::string::npos, refusal(*plain, "IDMap,ScaNN").find("allowed"));
    IndexPtr ours(faiss_ext::import_from_faiss(plain.get()));
    EXPECT_NE(std::string::npos, refusal(*ours).find("already"));
}

/// Stops whatever it is told of, the first time that it is this.
struct Stop : std::runtime_error {
    using std::runtime_error::runtime_error;
};

TEST(ImportFromFaiss, StopsWhereProgressThrowsAndLeavesTheFaissIndexAsItIs) {
    for (const char* description : {"IDMap,IVF16,Flat", "Flat"}) {
        IndexPtr plain = plain_index(description, faiss::METRIC_L2);
        const std::vector<uint8_t> before = plain_bytes(*plain);
        std::set<std::string> stages;
        faiss_ext::FaissImport how;
        how.progress = [&](const char* stage, size_t done, size_t total) {
            EXPECT_LE(done, total) << stage;
            stages.insert(stage);
        };
        IndexPtr whole(faiss_ext::import_from_faiss(plain.get(), how));
        EXPECT_TRUE(stages.count("codebook") && stages.count("add"));
        EXPECT_EQ(std::string(description) == "Flat", stages.count("k-means"));
        for (const std::string& stopped : stages) {
            how.progress = [&](const char* stage, size_t, size_t) {
                if (stage == stopped) {
                    throw Stop(stage);
                }
            };
            EXPECT_THROW(faiss_ext::import_from_faiss(plain.get(), how), Stop);
            EXPECT_EQ(before, plain_bytes(*plain)) << stopped;
        }
    }
}

TEST(ImportFromFaiss, ForgetsTheProgressOfTheCall) {
    faiss_ext::FaissImport how;
    size_t calls = 0;
    how.progress = [&](const char*, size_t, size_t) { calls++; };
    IndexPtr index(faiss_ext::import_from_faiss(
            plain_index("IVF16,Flat", faiss::METRIC_L2).get(), how));
    const size_t once = calls;
    EXPECT_GT(once, 0u);
    const std::vector<float> x = rows(50, kD, 3);
    index->add(50, x.data());
    EXPECT_EQ(once, calls);
}

TEST(ImportFromFaiss, MemoryMayRunOutAnywhere) {
    using failing_memory::Fails;
    for (const char* description :
         {"IDMap2,IVF16,Flat", "IVF16,SQ8", "RR19,IVF16,Flat"}) {
        const std::vector<uint8_t> bytes =
                plain_bytes(*plain_index(description, faiss::METRIC_L2));
        for (Fails fails : {Fails::One, Fails::AllFrom}) {
            size_t failed = 0;
            for (size_t n = 0;; n = n + 1 + n / 4) {
                IndexPtr index;
                bool threw = false;
                {
                    failing_memory::Scope scope(n, fails);
                    try {
                        index.reset(faiss_ext::import_from_faiss(
                                bytes.data(), bytes.size()));
                    } catch (const std::bad_alloc&) {
                        threw = true;
                    } catch (const faiss::FaissException&) {
                        threw = true;
                    }
                }
                if (failing_memory::failures == 0) {
                    ASSERT_FALSE(threw);
                    break;
                }
                failed++;
                ASSERT_TRUE(threw || index->ntotal == int64_t(kN));
            }
            EXPECT_GT(failed, 10u);
        }
    }
}

} // namespace
