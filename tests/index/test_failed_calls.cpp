/*
 * Calls that run out of memory somewhere: at each allocation of each call, the
 * index is then as before, and the call made again succeeds. SCANN_ALL_FAILURES=1
 * tries every allocation.
 */

#include <functional>
#include <map>
#include <stdexcept>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/scann_iterator.h>

#include "fixtures/failing_memory.h"
#include "fixtures/index_cases.h"
#include "fixtures/index_state.h"
#include "fixtures/sanitizers.h"

namespace {

using cases::IndexPtr;
using faiss_ext::find_scann;
using faiss_ext::IndexIVFScaNN;
using index_state::expect_same;
using index_state::State;
using index_state::state_of;

constexpr size_t kD = 8;
constexpr size_t kRows = 90;
constexpr size_t kMore = 40; ///< rows that come, change or go
constexpr auto kIP = faiss::METRIC_INNER_PRODUCT;
constexpr auto kL2 = faiss::METRIC_L2;

struct Kind {
    const char* description;
    faiss::MetricType metric;
    faiss::DirectMap::Type map = faiss::DirectMap::NoMap;
    bool mapped = false; ///< lists lie in a mapped file
};

std::string name_of(const testing::TestParamInfo<Kind>& info) {
    std::string name = info.param.description;
    name += info.param.metric == kL2 ? "L2" : "IP";
    const char* maps[] = {"", "Array", "Hashtable"};
    name += maps[int(info.param.map)];
    name += info.param.mapped ? "Mapped" : "";
    std::erase_if(name, [](char c) { return !std::isalnum(c); });
    return name;
}

/// Rows, then those that are added, then queries.
const std::vector<float>& all_rows() {
    static const std::vector<float> rows =
            cases::rows(kRows + kMore + 12, kD, 3);
    return rows;
}
const float* more_rows() {
    return &all_rows()[kRows * kD];
}
std::vector<float> queries() {
    return {all_rows().end() - 12 * kD, all_rows().end()};
}

#if FAISS_EXT_ADDRESS_SANITIZER
constexpr double kSkipped = 2;
#else
constexpr double kSkipped = .5;
#endif

/// All allocations with SCANN_ALL_FAILURES, else fewer and fewer.
size_t next_after(size_t n) {
    static const bool all = std::getenv("SCANN_ALL_FAILURES") != nullptr;
    return n + 1 + (all ? 0 : size_t(kSkipped * double(n)));
}

/// A call that may fail; what it makes besides is compared too.
using Call = std::function<std::vector<uint8_t>(faiss::Index&)>;

class FailedCalls : public testing::TestWithParam<Kind> {
 protected:
    bool array() const {
        return GetParam().map == faiss::DirectMap::Array;
    }
    bool has_ids() const { // of an IDMap
        return std::string(GetParam().description).find("IDMap") == 0;
    }
    bool wrapped() const {
        return std::string(GetParam().description).find("IVF") != 0;
    }
    static int64_t id_of(size_t i) {
        return int64_t(5 * i + 3);
    }

    IndexPtr untrained() const {
        IndexPtr index(faiss_ext::index_factory(
                kD, GetParam().description, GetParam().metric));
        find_scann(index.get())->own_fields = true;
        return index;
    }
    /// A fresh one with kRows rows.
    IndexPtr full() const {
        static std::map<std::string, std::string> files;
        std::string& file = files[name_of({GetParam(), 0})];
        static cases::Directory directory(true);
        if (file.empty()) {
            IndexPtr index = untrained();
            index->train(kRows, all_rows().data());
            IndexIVFScaNN& scann = *find_scann(index.get());
            scann.set_direct_map_type(GetParam().map);
            add(*index, 0, kRows);
            scann.nprobe = std::min<size_t>(4, scann.nlist);
            file = directory.file(name_of({GetParam(), 0}));
            faiss_ext::write_index(index.get(), file);
        }
        auto mode = GetParam().mapped ? faiss_ext::ReadMode::Mmap
                                      : faiss_ext::ReadMode::Copy;
        return IndexPtr(faiss_ext::read_index(file, mode));
    }
    void add(faiss::Index& index, size_t begin, size_t end) const {
        std::vector<int64_t> ids;
        for (size_t i = begin; i < end; i++) {
            ids.push_back(id_of(i));
        }
        index.add_with_ids(
                int64_t(ids.size()),
                &all_rows()[begin * kD],
                array() ? nullptr : ids.data());
    }

    /// Fails at one allocation after the other, alone or with all after it.
    /// @param make  a fresh index
    void sweep(const std::function<IndexPtr()>& make, const Call& call) {
        using namespace failing_memory;
        const std::vector<float> x = queries();
        IndexPtr done = make();
        const State before = state_of(*done, x);
        const std::vector<uint8_t> made = call(*done);
        const State after = state_of(*done, x);
        size_t thrown = 0;
        for (Fails fails : {Fails::One, Fails::AllFrom}) {
            for (size_t n = 0; !HasFailure(); n = next_after(n)) {
                IndexPtr index = make();
                bool threw = false;
                std::vector<uint8_t> result;
                {
                    Scope scope(n, fails);
                    try {
                        result = call(*index);
                    } catch (const std::exception&) {
                        threw = true;
                    }
                }
                const size_t failed = failures;
                const std::string when =
                        std::string(threw ? "after" : "without") +
                        " a failure at allocation " + std::to_string(n) +
                        (fails == Fails::One ? "" : " and on");
                if (threw) {
                    thrown++;
                    expect_same(state_of(*index, x), before, when);
                    result = call(*index);
                }
                expect_same(state_of(*index, x), after, when + ", then done");
                EXPECT_TRUE(result == made) << when;
                if (failed == 0) {
                    break;
                }
            }
        }
        EXPECT_GT(thrown, 0u) << "nothing failed";
    }
    void sweep_full(const Call& call) {
        sweep([this] { return full(); }, call);
    }
};

std::vector<uint8_t> nothing() {
    return {};
}

TEST_P(FailedCalls, Add) {
    sweep_full([&](faiss::Index& index) {
        add(index, kRows, kRows + kMore);
        return nothing();
    });
}

TEST_P(FailedCalls, AddOne) {
    sweep_full([&](faiss::Index& index) {
        add(index, kRows, kRows + 1);
        return nothing();
    });
}

TEST_P(FailedCalls, AddSaCodes) {
    if (wrapped()) {
        GTEST_SKIP() << "codes are the inner index'";
    }
    std::vector<uint8_t> codes;
    {
        IndexPtr index = full();
        codes.resize(kMore * index->sa_code_size());
        index->sa_encode(kMore, more_rows(), codes.data());
    }
    sweep_full([&](faiss::Index& index) {
        find_scann(&index)->add_sa_codes(kMore, codes.data(), nullptr);
        return nothing();
    });
}

TEST_P(FailedCalls, Remove) {
    std::vector<int64_t> listed;
    for (size_t i = 0; i < kMore; i++) {
        listed.push_back(array() ? int64_t(2 * i) : id_of(2 * i));
    }
    faiss::IDSelectorRange range(17, 61);
    faiss::IDSelectorArray array_of(listed.size(), listed.data());
    faiss::IDSelectorBatch batch(listed.size(), listed.data());
    faiss::IDSelectorAll all;
    for (const faiss::IDSelector* sel :
         std::initializer_list<const faiss::IDSelector*>{
                 &range, &array_of, &batch, &all}) {
        sweep_full([&](faiss::Index& index) {
            size_t removed = index.remove_ids(*sel);
            failing_memory::armed = false;
            return std::vector<uint8_t>{uint8_t(removed)};
        });
    }
}

TEST_P(FailedCalls, Update) {
    if (wrapped()) {
        GTEST_SKIP() << "Faiss' wrappers have none";
    }
    std::vector<int64_t> ids;
    for (size_t i = 0; i < kMore; i++) {
        ids.push_back(array() ? int64_t(2 * i) : id_of(2 * i));
    }
    sweep_full([&](faiss::Index& index) {
        find_scann(&index)->update_vectors(kMore, ids.data(), more_rows());
        return nothing();
    });
}

TEST_P(FailedCalls, DirectMap) {
    for (auto type :
         {faiss::DirectMap::NoMap,
          faiss::DirectMap::Array,
          faiss::DirectMap::Hashtable}) {
        bool fits = type != faiss::DirectMap::Array || array() || has_ids();
        if (type == GetParam().map || type == faiss::DirectMap::NoMap ||
            !fits) {
            continue;
        }
        sweep_full([&](faiss::Index& index) {
            find_scann(&index)->set_direct_map_type(type);
            return nothing();
        });
    }
}

TEST_P(FailedCalls, Calibrate) {
    const std::vector<float> x = queries();
    sweep_full([&](faiss::Index& index) {
        IndexIVFScaNN& scann = *find_scann(&index);
        auto chosen =
                scann.calibrate(int64_t(x.size() / scann.d), x.data(), .8f, 3);
        failing_memory::armed = false;
        return std::vector<uint8_t>{uint8_t(chosen.nprobe)};
    });
}

TEST_P(FailedCalls, Maintain) {
    std::vector<float> far(more_rows(), more_rows() + kMore * kD);
    for (float& value : far) {
        value += 900; // another part of space: lists are to be divided
    }
    const auto drifted = [&] {
        IndexPtr index = full();
        std::vector<int64_t> ids(kMore);
        for (size_t i = 0; i < kMore; i++) {
            ids[i] = id_of(kRows + i);
        }
        index->add_with_ids(
                int64_t(kMore), far.data(), array() ? nullptr : ids.data());
        return index;
    };
    const IndexPtr one = drifted();
    if (!find_scann(one.get())->state().keeps_rows() || GetParam().mapped) {
        EXPECT_THROW(find_scann(one.get())->maintain(), faiss::FaissException);
        return;
    }
    EXPECT_GT(find_scann(one.get())->maintain().rows, 0u);
    sweep(drifted, [&](faiss::Index& index) {
        find_scann(&index)->maintain();
        return nothing();
    });
}

TEST_P(FailedCalls, Search) {
    const std::vector<float> x = queries();
    constexpr size_t k = 5;
    sweep_full([&](faiss::Index& index) {
        const size_t n = x.size() / index.d;
        std::vector<float> distances(n * k);
        std::vector<int64_t> labels(n * k);
        index.search(n, x.data(), k, distances.data(), labels.data());
        std::vector<uint8_t> found(labels.begin(), labels.end());
        index.search(1, x.data(), k, distances.data(), labels.data());
        IndexIVFScaNN& scann = *find_scann(&index);
        if (&index == &scann) {
            faiss::RangeSearchResult hits(n);
            scann.range_search(n, x.data(), distances[k - 1], &hits);
            found.push_back(uint8_t(hits.lims[n]));
        }
        return found;
    });
}

/// A batch that fails is given by the next call.
TEST_P(FailedCalls, Iterate) {
    using namespace failing_memory;
    const std::vector<float> x = queries();
    sweep_full([&](faiss::Index& index) {
        constexpr size_t kBatch = 40;
        const IndexIVFScaNN& scann = *find_scann(&index);
        auto rows = scann.iterate(x.data(), kBatch);
        std::vector<uint8_t> found;
        float distances[kBatch];
        int64_t labels[kBatch];
        for (size_t n = 1; n > 0;) {
            try {
                n = rows->next(distances, labels);
            } catch (const std::bad_alloc&) {
                if (kind == Fails::AllFrom) {
                    throw;
                }
                n = rows->next(distances, labels);
            }
            found.insert(found.end(), labels, labels + n);
        }
        return found;
    });
}

TEST_P(FailedCalls, Clone) {
    sweep_full([&](faiss::Index& index) {
        IndexPtr copy(faiss_ext::clone_index(&index));
        failing_memory::armed = false;
        return state_of(*copy, queries()).bytes;
    });
}

TEST_P(FailedCalls, WriteAndRead) {
    cases::Directory directory(true);
    const std::string file = directory.file("index");
    for (auto mode : {faiss_ext::ReadMode::Copy, faiss_ext::ReadMode::Mmap}) {
        cases::write_bytes(file, "old");
        sweep_full([&](faiss::Index& index) {
            try {
                faiss_ext::write_index(&index, file);
                IndexPtr copy(faiss_ext::read_index(file, mode));
                failing_memory::armed = false;
                return state_of(*copy, queries()).bytes;
            } catch (...) {
                failing_memory::armed = false;
                // the old file, or the whole new one
                EXPECT_EQ(directory.files(), 1u);
                if (cases::read_bytes(file) != "old") {
                    IndexPtr whole(faiss_ext::read_index(file));
                    cases::write_bytes(file, "old");
                }
                throw;
            }
        });
    }
}

TEST_P(FailedCalls, WriteAndReadInMemory) {
    sweep_full([&](faiss::Index& index) {
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(&index, &writer);
        faiss::VectorIOReader reader;
        reader.data = std::move(writer.data);
        IndexPtr copy(faiss_ext::read_index(&reader));
        failing_memory::armed = false;
        return state_of(*copy, queries()).bytes;
    });
}

TEST_P(FailedCalls, Train) {
    sweep([this] { return untrained(); },
          [](faiss::Index& index) {
              index.train(kRows, all_rows().data());
              return nothing();
          });
}

/// Of two indexes: the other must be as before too.
TEST_P(FailedCalls, MergeAndCopy) {
    if (wrapped() || GetParam().map != faiss::DirectMap::NoMap) {
        GTEST_SKIP() << "Faiss merges no maps and no wrappers of ours";
    }
    const std::vector<float> x = queries();
    auto other = [&] {
        IndexPtr index = full();
        index->reset();
        add(*index, kRows, kRows + kMore);
        return index;
    };
    const State other_before = state_of(*other(), x);
    using Work = std::function<void(IndexIVFScaNN&, IndexIVFScaNN&)>;
    const Work works[] = {
            [](auto& to, auto& from) { to.merge_from(from, 1000); },
            [](auto& to, auto& from) {
                from.copy_subset_to(to, faiss_ext::SubsetType(0), 0, 600);
            }};
    for (const Work& work : works) {
        IndexPtr from;
        sweep(
                [&] {
                    from = other();
                    return full();
                },
                [&](faiss::Index& index) {
                    try {
                        work(*find_scann(&index), *find_scann(from.get()));
                    } catch (...) {
                        failing_memory::armed = false;
                        expect_same(state_of(*from, x), other_before, "other");
                        throw;
                    }
                    failing_memory::armed = false;
                    return state_of(*from, x).bytes;
                });
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        FailedCalls,
        testing::Values(
                Kind{"IVF6,ScaNN,RFlat", kL2},
                Kind{"IVF6,ScaNN,SQ8", kL2, faiss::DirectMap::Array},
                Kind{"IVF6,ScaNN(soar_lambda=1),SQ8,RFlat",
                     kIP,
                     faiss::DirectMap::Hashtable},
                Kind{"IVF6,ScaNN(normalize=1)", kIP},
                Kind{"IVF6,ScaNN(soar_lambda=1)", kL2, {}, true},
                Kind{"IVF6,ScaNN,SQfp16",
                     kIP,
                     faiss::DirectMap::Hashtable,
                     true},
                Kind{"ScaNN,RFlat", kIP},
                Kind{"IDMap2,IVF6,ScaNN,RFlat", kL2},
                Kind{"IDMap,PCA6,IVF6,ScaNN,RFlat", kL2}),
        name_of);

} // namespace
