/*
 * What a node has built or loaded: an index that many calls read while one
 * changes it.
 *
 * An index of the engine has versions (faiss_ext/versioned_scann.h): who reads
 * never waits for a change. Others have a lock. A child of fork() has no locks
 * of its parent's threads.
 */

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include <faiss/IndexIVF.h>

#include <faiss_ext/memory/per_process.h>
#include <faiss_ext/memory/shared_slot.h>
#include <faiss_ext/versioned_scann.h>

#include <knowhere_plugin/parameters.h>

namespace knowhere_plugin {

enum class Metric : uint32_t { L2 = 0, IP = 1, COSINE = 2 };

Metric metric_of(const std::string& word);
const char* name_of(Metric metric);

/// An index and what its node keeps about it.
struct BuiltIndex {
    std::unique_ptr<faiss::Index> index;
    Metric metric = Metric::L2;
};

class NodeIndex {
 public:
    /// @param build  number of builds and loads of the node so far
    NodeIndex(BuiltIndex built, uint64_t build);
    NodeIndex(const NodeIndex&) = delete;
    NodeIndex& operator=(const NodeIndex&) = delete;
    ~NodeIndex();

    Metric metric() const {
        return metric_;
    }
    uint64_t build() const {
        return build_;
    }

    /// The index, which does not change while this lives. Of an index with versions
    /// it keeps no lock, and may live as long as anybody likes.
    class Reading {
     public:
        const faiss::Index& operator*() const {
            return *index_;
        }
        const faiss::Index* operator->() const {
            return index_;
        }
        Metric metric() const {
            return of_->metric();
        }
        uint64_t build() const {
            return of_->build();
        }

     private:
        friend class NodeIndex;
        std::shared_ptr<const NodeIndex> of_;
        std::shared_lock<std::shared_mutex> lock_;
        std::shared_ptr<const faiss::Index> version_;
        const faiss::Index* index_ = nullptr;
    };
    /// @throws faiss::FaissException  if a fork cut a change short
    static Reading read(std::shared_ptr<const NodeIndex> of);

    /// Calls change(index); if that throws, the index must be as before. One call
    /// at a time. @throws faiss::FaissException  if a fork cut a change short
    void change(const std::function<void(faiss::Index&)>& change);

 private:
    void check_whole() const;

    const Metric metric_;
    const uint64_t build_;
    std::unique_ptr<faiss_ext::VersionedScaNN> versions_;
    // or
    std::unique_ptr<faiss::Index> index_;
    faiss_ext::PerProcess<std::shared_mutex> mutex_; ///< of index_
    /// Seen by who holds the lock only where a fork cut a change short.
    bool changing_ = false;
};

/// The NodeIndex of a node, which may be replaced while it is read.
class CurrentIndex {
 public:
    /// nullptr: neither built nor loaded
    std::shared_ptr<NodeIndex> load() const {
        return here().load();
    }
    /// One call at a time.
    void store(std::shared_ptr<NodeIndex> index) {
        here().store(std::move(index));
    }

 private:
    using Slot = faiss_ext::SharedSlot<NodeIndex>;
    Slot& here() const;

    faiss_ext::PerProcess<Slot> slot_;
};

/** The place of each row in an IVF index, found at the first request. Not Faiss'
 * direct map, which would become a part of the index and of its blobs. */
class RowPlaces {
 public:
    using Places = std::shared_ptr<const std::vector<uint64_t>>;
    /// By id: list << 32 | offset (faiss::lo_build). Thread-safe.
    /// @param build  of the index, which otherwise changes with its ntotal alone
    Places of(const faiss::IndexIVF& index, uint64_t build);

 private:
    faiss_ext::PerProcess<std::mutex> mutex_;
    Places places_;
    uint64_t build_ = 0;
};

} // namespace knowhere_plugin
