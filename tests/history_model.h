/*
 * A history: random operations on an index, each also done to a dictionary
 * id -> row, and compared with brute force over that.
 *
 * Rows are whole numbers (index_fixtures.h), so that an index which keeps them
 * must find exactly what brute force finds. Some calls are made to fail on the
 * way (History::change); the index must then be as before.
 */

#pragma once

#include <functional>
#include <map>
#include <set>
#include <stdexcept>

#include <faiss/IndexPreTransform.h>

#include "failing_memory.h"
#include "index_cases.h"
#include "index_fixtures.h"
#include "index_state.h"
#include "reference.h"

namespace histories {

using faiss_ext::IndexIVFScaNN;
using fixtures::kL2;
using index_state::State;
using IndexPtr = std::unique_ptr<faiss::Index>;

constexpr size_t kD = 16;
constexpr size_t kTrainingRows = 500;
constexpr size_t kMostRows = 700;

struct Kind {
    const char* description;
    faiss::MetricType metric;
    double recall; ///< floor of recall@k with all lists visited; 1: exact
    /// of a distance from that of the row, by |q| |x| + |x|^2
    double error;
    bool fails = true; ///< calls can be made to run out of memory

    bool has(const char* part) const {
        return std::string(description).find(part) != std::string::npos;
    }
    bool normalized() const {
        return has("normalize") || has("L2norm");
    }
    /// reconstructs what was given
    bool exact_rows() const {
        return has("RFlat") && !has("L2norm") && !has("PCA");
    }
};

/// Ends a search, an add or a training where it asks.
struct Interrupt : faiss::InterruptCallback {
    size_t left;
    explicit Interrupt(size_t left) : left(left) {}
    bool want_interrupt() override {
        return left-- == 0;
    }
};

/// Selectors of every kind, and what they borrow.
class AnySelector {
 public:
    template <class Random>
    AnySelector(Random& random, const std::map<int64_t, size_t>& known) {
        for (auto [id, row] : known) {
            if (random() % 4 == 0) {
                ids_.push_back(id);
            }
        }
        ids_.push_back(int64_t(random() % 100000)); // maybe unknown
        const int64_t from = int64_t(random() % 2000);
        switch (random() % 6) {
            case 0:
                sel_ = std::make_unique<faiss::IDSelectorRange>(
                        from, from + int64_t(random() % 300));
                break;
            case 1:
                sel_ = std::make_unique<faiss::IDSelectorArray>(
                        ids_.size(), ids_.data());
                break;
            case 2:
                sel_ = std::make_unique<faiss::IDSelectorBatch>(
                        ids_.size(), ids_.data());
                break;
            case 3:
                bits_.resize(300);
                for (int64_t id : ids_) {
                    if (size_t(id) < 8 * bits_.size()) {
                        bits_[id / 8] |= 1 << (id % 8);
                    }
                }
                sel_ = std::make_unique<faiss::IDSelectorBitmap>(
                        bits_.size(), bits_.data());
                break;
            case 4:
                inner_ = std::make_unique<faiss::IDSelectorRange>(
                        from, from + 1000000000);
                sel_ = std::make_unique<faiss::IDSelectorNot>(inner_.get());
                break;
            case 5:
                sel_ = std::make_unique<Odd>();
                break;
        }
    }
    const faiss::IDSelector& get() const {
        return *sel_;
    }

 private:
    /// one that the engine does not know
    struct Odd : faiss::IDSelector {
        bool is_member(int64_t id) const override {
            return id % 3 == 1;
        }
    };
    std::vector<int64_t> ids_;
    std::vector<uint8_t> bits_;
    std::unique_ptr<faiss::IDSelector> inner_, sel_;
};

class History {
 public:
    History(const Kind& kind, uint64_t seed)
            : kind_(kind),
              random_(seed),
              pool_(fixtures::whole_rows(4000, kD, int(seed))) {
        index_.reset(
                faiss_ext::index_factory(kD, kind.description, kind.metric));
        change([&] { index_->train(kTrainingRows, pool_.data()); });
        leaf().nprobe = std::max<size_t>(leaf().nlist / 2, 1);
        queries_.assign(pool_.end() - 12 * kD, pool_.end());
    }

    /// One operation, chosen at random.
    void step();
    /// Lists, ids, places, copies and rows, one by one.
    void check() const;
    void check_recall() const {
        if (!exact()) { // else each rank was compared
            EXPECT_GE(double(hits_), kind_.recall * double(wanted_));
        }
    }

    size_t failures() const {
        return failures_;
    }
    size_t refusals() const {
        return refusals_;
    }

 private:
    size_t draw(size_t n) {
        return size_t(random_() % n);
    }
    bool exact() const {
        return kind_.recall == 1;
    }
    IndexIVFScaNN& leaf() const {
        return *faiss_ext::find_scann(index_.get());
    }
    bool plain() const {
        return index_.get() == &leaf();
    }
    bool has_id_map() const {
        return dynamic_cast<faiss::IndexIDMap*>(index_.get()) != nullptr;
    }
    const float* row(size_t i) const {
        return &pool_[i * kD];
    }
    State state() const {
        return index_state::state_of(*index_, queries_);
    }
    /// Row of the pool for each of n ids, and the rows one after another.
    std::vector<float> draw_rows(size_t n, std::vector<size_t>& chosen);

    void change(const std::function<void()>& call);
    void refuse(const std::function<void()>& call);

    void add();
    void add_entries();
    void remove();
    void update();
    void reset();
    void set_map();
    void merge();
    void copy_subset();
    void replace();
    void write();
    void reserve();
    void calibrate();
    void search();
    void range_search();
    void reconstruct();
    void wrong_calls();

    double distance(const float* q, const float* x) const;
    /// What the metric makes of a row: of unit length or as it is.
    std::vector<float> as_kept(const float* x) const;
    void check_copies(const faiss_ext::ScaNNLists& copies) const;
    void check_distance(const float* q, int64_t id, float got) const;

    const Kind kind_;
    std::mt19937_64 random_;
    const std::vector<float> pool_;
    std::vector<float> queries_;
    IndexPtr index_;
    std::map<int64_t, size_t> rows_;      ///< id -> row of the pool
    std::map<int64_t, size_t> forgotten_; ///< those before the last reset
    int64_t next_id_ = 0;
    cases::Directory directory_{true};
    size_t hits_ = 0, wanted_ = 0; ///< of searches of all lists
    size_t failures_ = 0, refusals_ = 0;
};

} // namespace histories
