#include <faiss_ext/wrappers/id_maps.h>

#include <algorithm>

#include <faiss/IndexIVF.h>
#include <faiss/impl/FaissAssert.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/invlists/BlockInvertedLists.h>
#include <faiss/invlists/InvertedLists.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/wrappers/clone.h>
#include <faiss_ext/index_factory.h>

namespace faiss_ext {

namespace {

using Table = std::unordered_map<int64_t, int64_t>;

Table* table_of(faiss::IndexIDMap& map) {
    auto map2 = dynamic_cast<faiss::IndexIDMap2*>(&map);
    return map2 == nullptr ? nullptr : &map2->rev_map;
}

/// Makes room for n more entries, which then need memory only for their nodes;
/// grows by half.
void make_buckets(Table& table, size_t n) {
    const double room = double(table.bucket_count()) * table.max_load_factor();
    if (double(table.size() + n) > room) {
        table.reserve(table.size() + std::max(n, table.size() / 2));
    }
}

/// Rows without a new number.
struct Unnumbered : faiss::IDSelector {
    const std::vector<int64_t>& now;
    explicit Unnumbered(const std::vector<int64_t>& now) : now(now) {}
    bool is_member(int64_t id) const override {
        return id >= 0 && size_t(id) < now.size() && now[size_t(id)] < 0;
    }
    std::vector<int64_t> rows() const {
        std::vector<int64_t> found;
        for (size_t i = 0; i < now.size(); i++) {
            if (now[i] < 0) {
                found.push_back(int64_t(i));
            }
        }
        return found;
    }
};

/// The IndexIDMap next below a layer, or nullptr.
faiss::IndexIDMap* map_below(faiss::Index* index) {
    while (index != nullptr) {
        if (auto map = dynamic_cast<faiss::IndexIDMap*>(index)) {
            return map;
        }
        faiss::Index** slot = wrapped_index(index);
        index = slot == nullptr ? nullptr : *slot;
    }
    return nullptr;
}

/// Calls work(ids, n) for the ids of each list of Faiss' own.
template <class Work>
void for_ids(faiss::InvertedLists& lists, Work&& work) {
    for (size_t l = 0; l < lists.nlist; l++) {
        // both kinds give out their own memory (checked by the caller)
        work(const_cast<int64_t*>(lists.get_ids(l)), lists.list_size(l));
    }
}

bool has_ids_in_memory(const faiss::InvertedLists& lists) {
    return dynamic_cast<const faiss::ArrayInvertedLists*>(&lists) != nullptr ||
           dynamic_cast<const faiss::BlockInvertedLists*>(&lists) != nullptr;
}

/// New numbers for the rows below a map: in the ids of the next map below, or
/// in the lists. An index of Faiss without lists renumbers its rows itself when
/// it removes some, as this does, or refuses to.
class Renumbering {
 public:
    /// The step that needs memory. @param now  new numbers by old number, -1:
    ///                                         removed; kept alive by the caller
    Renumbering(faiss::IndexIDMap& map, const std::vector<int64_t>& now)
            : now_(now), inner_(map_below(map.index)) {
        if (inner_ != nullptr) {
            int64_t place = 0;
            for (int64_t id : inner_->id_map) {
                if (number(id) >= 0 && table_of(*inner_) != nullptr) {
                    table_[number(id)] = place;
                }
                place += number(id) >= 0;
            }
            return;
        }
        ivf_ = dynamic_cast<faiss::IndexIVF*>(leaf_index(map.index));
        if (ivf_ == nullptr) {
            return;
        }
        scann_ = dynamic_cast<IndexIVFScaNN*>(ivf_);
        if (scann_ != nullptr) {
            for_lists([](AlignedBuffer<int64_t>& ids) {
                ids.mutable_data(); // copies ids of a mapped file
            });
        } else {
            FAISS_THROW_IF_NOT_MSG(
                    has_ids_in_memory(*ivf_->invlists),
                    "remove_ids: the ids in the lists below an IndexIDMap "
                    "cannot be changed (allowed: lists in memory)");
        }
        if (!ivf_->direct_map.no()) {
            table_.reserve(size_t(ivf_->ntotal));
        }
    }
    /// Does not fail.
    void apply() {
        if (inner_ != nullptr) {
            for (int64_t& id : inner_->id_map) {
                id = number(id);
            }
            if (Table* table = table_of(*inner_)) {
                table->swap(table_);
            }
            return;
        }
        if (ivf_ == nullptr) {
            return;
        }
        auto renumber = [&](int64_t* ids, size_t n) {
            for (size_t i = 0; i < n; i++) {
                ids[i] = number(ids[i]);
            }
        };
        if (scann_ != nullptr) {
            for_lists([&](AlignedBuffer<int64_t>& ids) {
                renumber(ids.mutable_data(), ids.size());
            });
        } else {
            for_ids(*ivf_->invlists, renumber);
        }
        if (ivf_->direct_map.type == faiss::DirectMap::Array) {
            // only if the removed rows were in no list
            ivf_->direct_map = faiss::DirectMap();
        }
        Table& old = ivf_->direct_map.hashtable;
        while (!old.empty()) {
            auto node = old.extract(old.begin());
            node.key() = number(node.key());
            table_.insert(std::move(node));
        }
        old.swap(table_);
    }

 private:
    /// A forged file may hold a number twice, of which one was removed.
    int64_t number(int64_t id) const {
        return uint64_t(id) < now_.size() ? now_[size_t(id)] : -1;
    }
    template <class Work>
    void for_lists(Work&& work) {
        auto all = [&](ScaNNLists& lists) {
            for (size_t l = 0; l < lists.nlist; l++) {
                if (lists.list(l).size() > 0) {
                    work(lists.mutable_list(l).ids);
                }
            }
        };
        all(*scann_->state().lists);
        if (scann_->state().spilled != nullptr) {
            all(*scann_->state().spilled);
        }
    }

    const std::vector<int64_t>& now_;
    faiss::IndexIDMap* inner_;
    faiss::IndexIVF* ivf_ = nullptr;
    IndexIVFScaNN* scann_ = nullptr; ///< ivf_, if it is one
    /// of the inner map, or buckets for the direct map's nodes
    Table table_;
};

/// Also of an IndexIDMap that is Faiss' own.
size_t remove_below(faiss::Index* index, const Unnumbered& selector) {
    if (auto map = dynamic_cast<faiss::IndexIDMap*>(index)) {
        return remove_from_map(*map, selector);
    }
    faiss::Index** slot = wrapped_index(index);
    if (slot == nullptr) {
        auto ivf = dynamic_cast<faiss::IndexIVF*>(index);
        if (ivf != nullptr &&
            ivf->direct_map.type == faiss::DirectMap::Hashtable) {
            // the only selector that Faiss takes with this map
            const std::vector<int64_t> rows = selector.rows();
            return index->remove_ids(
                    faiss::IDSelectorArray(rows.size(), rows.data()));
        }
        return index->remove_ids(selector);
    }
    const size_t removed = remove_below(*slot, selector);
    index->ntotal = (*slot)->ntotal;
    return removed;
}

/// ntotal of an index and all that it wraps.
void set_count(faiss::Index* index, int64_t count) {
    index->ntotal = count;
    while (faiss::Index** slot = wrapped_index(index)) {
        index = *slot;
        index->ntotal = count;
    }
}

} // namespace

MapGrowth::MapGrowth(faiss::IndexIDMap& map, size_t n, const int64_t* ids)
        : map_(map), ids_(ids), n_(n) {
    FAISS_THROW_IF_NOT_MSG(
            ids != nullptr || n == 0,
            "an IDMap index needs ids for its vectors");
    const size_t size = map.id_map.size();
    if (size + n > map.id_map.capacity()) {
        map.id_map.reserve(std::max(size + n, size + size / 2));
    }
    if (Table* table = table_of(map)) {
        for (size_t i = 0; i < n; i++) {
            fresh_[ids[i]] = int64_t(size + i);
        }
        make_buckets(*table, fresh_.size());
    }
}

void MapGrowth::commit() {
    map_.id_map.insert(map_.id_map.end(), ids_, ids_ + n_);
    map_.ntotal = map_.index->ntotal;
    Table* table = table_of(map_);
    while (!fresh_.empty()) {
        auto node = fresh_.extract(fresh_.begin());
        auto known = table->find(node.key());
        if (known != table->end()) {
            known->second = node.mapped();
        } else {
            table->insert(std::move(node));
        }
    }
}

size_t remove_from_map(
        faiss::IndexIDMap& map,
        const faiss::IDSelector& selector) {
    std::vector<int64_t>& ids = map.id_map;
    std::vector<int64_t> now(ids.size(), -1);
    Table* table = table_of(map);
    Table left;
    int64_t next = 0;
    for (size_t i = 0; i < ids.size(); i++) {
        if (!selector.is_member(ids[i])) {
            now[i] = next++;
            if (table != nullptr) {
                left[ids[i]] = now[i];
            }
        }
    }
    if (size_t(next) == ids.size()) {
        return 0;
    }
    Renumbering renumbering(map, now);
    const size_t removed = remove_below(map.index, Unnumbered(now));
    // nothing fails from here on
    renumbering.apply();
    const size_t gone = ids.size() - size_t(next);
    for (size_t i = 0; i < ids.size(); i++) {
        if (now[i] >= 0) {
            ids[size_t(now[i])] = ids[i];
        }
    }
    ids.resize(size_t(next));
    // Each id needs one number, since the next row gets the number ntotal. Rows
    // that are counted but in no list, or (forged) in two, would break this.
    if (removed != gone) {
        set_count(map.index, next);
    }
    map.ntotal = next;
    if (table != nullptr) {
        table->swap(left);
    }
    return gone;
}

void merge_maps(
        faiss::IndexIDMap& map,
        faiss::IndexIDMap& other,
        int64_t add_id,
        const std::function<void(int64_t)>& merge_below) {
    std::vector<int64_t> ids = other.id_map;
    for (int64_t& id : ids) {
        id = moved_id(id, add_id);
    }
    MapGrowth growth(map, ids.size(), ids.data());
    merge_below(int64_t(map.id_map.size()));
    growth.commit();
    other.id_map.clear();
    other.ntotal = 0;
    if (Table* table = table_of(other)) {
        table->clear();
    }
}

} // namespace faiss_ext
