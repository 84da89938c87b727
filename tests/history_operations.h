/* What a history does to its index; what it is: history_model.h. */

#pragma once

#include "history_model.h"
#include "lists_model.h"

namespace histories {

// ---- calls that fail ----

/** A call that changes the index, and now and then fails before: memory runs
 * out somewhere, `progress` throws or an interrupt comes. Then all is as
 * before, and the call is made again. */
inline void History::change(const std::function<void()>& call) {
    using failing_memory::Fails;
    const size_t what = draw(10);
    if (what > 3 || (what < 2 && !kind_.fails)) {
        call();
        return;
    }
    const State before = state();
    size_t n = draw(draw(2) == 0 ? 12 : 250);
    bool threw = false;
    auto attempt = [&] {
        try {
            call();
        } catch (const std::exception&) {
            threw = true;
        }
    };
    if (what < 2) {
        failing_memory::Scope scope(n, what == 0 ? Fails::One : Fails::AllFrom);
        attempt();
    } else if (what == 2) {
        leaf().progress = [n = n % 3](const char*, size_t, size_t) mutable {
            if (n-- == 0) {
                throw std::runtime_error("stop");
            }
        };
        attempt();
        leaf().progress = nullptr;
    } else {
        faiss::InterruptCallback::instance = std::make_unique<Interrupt>(n % 4);
        attempt();
        faiss::InterruptCallback::clear_instance();
    }
    if (threw) {
        failures_++;
        expect_same(state(), before, "after a call that failed");
        call();
    }
}

/// A call that must throw and change nothing.
inline void History::refuse(const std::function<void()>& call) {
    const State before = state();
    EXPECT_THROW(call(), faiss::FaissException);
    expect_same(state(), before, "after a call that was refused");
    refusals_++;
}

inline void History::wrong_calls() {
    std::vector<float> x(row(0), row(0) + 3 * kD);
    x[2 * kD + 5] = std::numeric_limits<float>::quiet_NaN();
    std::vector<int64_t> ids = {next_id_ + 5, next_id_ + 6, next_id_ + 7};
    refuse([&] { index_->add_with_ids(3, x.data(), ids.data()); });
    if (plain()) {
        x[2 * kD + 5] = 1;
        int64_t lists[] = {0, 1, int64_t(leaf().nlist)};
        refuse([&] { leaf().add_core(3, x.data(), ids.data(), lists); });
        refuse([&] { leaf().update_vectors(3, ids.data(), x.data()); });
        refuse([&] { leaf().calibrate(0, x.data(), .9f, 3); });
        refuse([&] { leaf().merge_from(leaf(), 0); });
    }
}

// ---- rows that come ----

inline std::vector<float> History::draw_rows(
        size_t n,
        std::vector<size_t>& chosen) {
    std::vector<float> x;
    for (size_t i = 0; i < n; i++) {
        chosen.push_back(draw(pool_.size() / kD));
        x.insert(x.end(), row(chosen.back()), row(chosen.back()) + kD);
    }
    return x;
}

inline void History::add() {
    const size_t n = draw(6) == 0 ? draw(200) : draw(20);
    std::vector<size_t> chosen;
    const std::vector<float> x = draw_rows(n, chosen);
    std::vector<int64_t> ids(n);
    const bool array = leaf().direct_map.type == faiss::DirectMap::Array;
    // under their running numbers where those are free
    const bool running =
            !has_id_map() &&
            (array || rows_.lower_bound(index_->ntotal) == rows_.end());
    for (size_t i = 0; i < n; i++) {
        ids[i] = running ? index_->ntotal + int64_t(i) : next_id_ + int64_t(i);
    }
    if (!running && draw(30) == 0 && n > 0) {
        ids[0] = (int64_t(1) << 40) + next_id_;
    }
    if (plain() && draw(4) == 0) {
        std::vector<int64_t> lists(n);
        leaf().assign_lists(int64_t(n), x.data(), lists.data());
        if (exact()) { // then any list will do
            for (int64_t& list : lists) {
                list = int64_t(draw(leaf().nlist));
            }
        }
        change([&] {
            leaf().add_core(
                    int64_t(n),
                    x.data(),
                    running ? nullptr : ids.data(),
                    lists.data());
        });
    } else {
        change([&] {
            index_->add_with_ids(
                    int64_t(n), x.data(), running ? nullptr : ids.data());
        });
    }
    for (size_t i = 0; i < n; i++) {
        rows_[ids[i]] = chosen[i];
        next_id_ = std::max(next_id_, ids[i] % (int64_t(1) << 40) + 1);
    }
}

/// As add(), but of what sa_encode() made.
inline void History::add_entries() {
    if (!plain() || leaf().direct_map.type == faiss::DirectMap::Array) {
        return;
    }
    std::vector<size_t> chosen;
    const size_t n = draw(12);
    const std::vector<float> x = draw_rows(n, chosen);
    std::vector<uint8_t> codes(n * leaf().sa_code_size());
    leaf().sa_encode(int64_t(n), x.data(), codes.data());
    std::vector<int64_t> ids(n);
    for (size_t i = 0; i < n; i++) {
        ids[i] = next_id_ + int64_t(i);
    }
    change([&] { leaf().add_sa_codes(int64_t(n), codes.data(), ids.data()); });
    for (size_t i = 0; i < n; i++) {
        rows_[next_id_++] = chosen[i];
    }
}

inline void History::update() {
    std::vector<int64_t> ids;
    for (auto [id, row] : rows_) {
        if (draw(20) == 0) {
            ids.push_back(id);
        }
    }
    if (!plain() || ids.empty()) {
        return;
    }
    std::shuffle(ids.begin(), ids.end(), random_);
    std::vector<size_t> chosen;
    const std::vector<float> x = draw_rows(ids.size(), chosen);
    change([&] {
        leaf().update_vectors(int(ids.size()), ids.data(), x.data());
    });
    for (size_t i = 0; i < ids.size(); i++) {
        rows_[ids[i]] = chosen[i];
    }
}

/// Rows of another index with the same training.
inline void History::merge() {
    if (!plain()) {
        return;
    }
    IndexPtr other(faiss_ext::clone_index(index_.get()));
    auto& from = dynamic_cast<IndexIVFScaNN&>(*other);
    from.reset();
    from.set_direct_map_type(faiss::DirectMap::NoMap);
    std::vector<size_t> chosen;
    const size_t n = draw(30);
    const std::vector<float> x = draw_rows(n, chosen);
    from.add(int64_t(n), x.data());
    const int64_t add_id = next_id_;
    if (leaf().direct_map.type != faiss::DirectMap::NoMap) {
        const State before = index_state::state_of(from, queries_);
        refuse([&] { leaf().merge_from(from, add_id); });
        expect_same(
                index_state::state_of(from, queries_), before, "other index");
        leaf().set_direct_map_type(faiss::DirectMap::NoMap);
    }
    change([&] { leaf().merge_from(from, add_id); });
    EXPECT_EQ(from.ntotal, 0);
    for (size_t i = 0; i < n; i++) {
        rows_[next_id_++] = chosen[i];
    }
}

/// Goes on with some of the rows, in another index.
inline void History::copy_subset() {
    if (!plain() || leaf().direct_map.type != faiss::DirectMap::NoMap) {
        return;
    }
    IndexPtr other(faiss_ext::clone_index(index_.get()));
    auto& from = dynamic_cast<IndexIVFScaNN&>(*other);
    const int64_t begin = next_id_ / 4;
    reset();
    change([&] {
        from.copy_subset_to(
                leaf(), faiss_ext::SubsetType(0), begin, int64_t(1) << 50);
    });
    // reset() has emptied the model too
    for (size_t l = 0; l < from.nlist; l++) {
        for (size_t i = 0; i < from.lists().list_size(l); i++) {
            int64_t id = from.lists().get_single_id(l, i);
            if (id >= begin) {
                rows_[id] = forgotten_.at(id);
            }
        }
    }
}

// ---- rows that go ----

inline void History::remove() {
    const AnySelector sel(random_, rows_);
    const size_t before = rows_.size();
    std::erase_if(rows_, [&](const auto& entry) {
        return sel.get().is_member(entry.first);
    });
    size_t removed = 0;
    change([&] { removed = index_->remove_ids(sel.get()); });
    EXPECT_EQ(removed, before - rows_.size());
}

inline void History::reset() {
    index_->reset();
    forgotten_ = std::move(rows_);
    rows_.clear();
}

// ---- the same rows, kept otherwise ----

inline void History::set_map() {
    const auto type = faiss::DirectMap::Type(draw(3));
    bool fits = true;
    for (size_t l = 0; l < leaf().nlist; l++) {
        const auto& ids = leaf().lists().list(l).ids;
        for (size_t i = 0; i < ids.size(); i++) {
            fits &= ids[i] >= 0 && ids[i] < leaf().ntotal;
        }
    }
    if (type == faiss::DirectMap::Array && !fits &&
        leaf().direct_map.type != type) {
        refuse([&] { leaf().set_direct_map_type(type); });
    } else {
        change([&] { leaf().set_direct_map_type(type); });
    }
}

inline void History::replace() {
    IndexPtr copy;
    change([&] { copy.reset(faiss_ext::clone_index(index_.get())); });
    index_ = std::move(copy);
}

inline void History::write() {
    IndexPtr copy;
    const std::string file = directory_.file("index");
    switch (draw(3)) {
        case 0:
            change([&] {
                faiss::VectorIOWriter writer;
                faiss_ext::write_index(index_.get(), &writer);
                faiss::VectorIOReader reader;
                reader.data = std::move(writer.data);
                copy.reset(faiss_ext::read_index(&reader));
            });
            break;
        case 1:
            change([&] {
                faiss_ext::write_index(index_.get(), file);
                copy.reset(faiss_ext::read_index(file));
            });
            break;
        case 2: // replaces a file that may be mapped
            change([&] {
                faiss_ext::write_index(index_.get(), file);
                copy.reset(
                        faiss_ext::read_index(file, faiss_ext::ReadMode::Mmap));
            });
            break;
    }
    EXPECT_LE(directory_.files(), 1u);
    index_ = std::move(copy);
}

inline void History::reserve() {
    std::vector<size_t> extra(leaf().nlist);
    for (size_t& n : extra) {
        n = draw(4) == 0 ? draw(100) : 0;
    }
    change([&] { leaf().mutable_lists().reserve(extra); });
}

inline void History::calibrate() {
    if (!plain() || rows_.size() < 50) {
        return;
    }
    const size_t n = queries_.size() / kD;
    change([&] { leaf().calibrate(int64_t(n), queries_.data(), .9f, 5); });
    EXPECT_EQ(leaf().calibration.nprobe, leaf().nprobe);
}

inline void History::step() {
    const size_t what = rows_.size() > kMostRows ? 24 : draw(56);
    switch (what) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
            return add();
        case 7:
        case 8:
            return add_entries();
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
            return remove();
        case 14:
        case 15:
        case 16:
        case 17:
        case 18:
            return update();
        case 19:
        case 20:
        case 21:
            return set_map();
        case 22:
            return merge();
        case 23:
            return copy_subset();
        case 24:
            return rows_.size() > kMostRows || draw(3) == 0 ? reset() : add();
        case 25:
            return replace();
        case 26:
        case 27:
            return write();
        case 28:
            return reserve();
        case 29:
            return calibrate();
        case 30:
            return wrong_calls();
        case 31:
        case 32:
        case 33:
        case 34:
            return range_search();
        case 35:
        case 36:
        case 37:
        case 38:
            return reconstruct();
        default:
            return search();
    }
}

} // namespace histories
