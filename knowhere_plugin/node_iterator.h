/*
 * Iterators over a node: of an index that gives its rows in pieces, and of any
 * other by growing searches, of which the last finds all rows.
 */

#pragma once

#include <algorithm>
#include <memory>
#include <unordered_set>
#include <vector>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

/// Hands out hits one by one; how more are found is the matter of who derives.
class HitIterator : public Iterator {
 public:
    Expected<bool> HasNext() noexcept override {
        return guarded_value<bool>([&] { return fetch(); });
    }

    Expected<std::pair<int64_t, float>> Next() noexcept override {
        return guarded_value<std::pair<int64_t, float>>([&] {
            if (!fetch()) {
                throw Fault(
                        StatusCode::invalid_args, "the iterator is at its end");
            }
            return hits_[at_++];
        });
    }

 protected:
    /// @return whether hits_[at_] is there, after more were found if need be
    virtual bool fetch() = 0;

    Hits hits_;
    size_t at_ = 0;
};

/** Each search asks for kGrowth times as many rows as the one before, and visits
 * as many times more lists; rows that were returned before are left out. So all
 * searches together cost a third more than the last. Rows of one search come
 * nearest first. If a search finds a row that an earlier one has missed, it
 * comes first, so that only there a distance may be smaller than the one
 * before. */
class NodeIterator : public HitIterator {
 public:
    /// rows of the first search: most callers read no more, and it takes no
    /// longer than a search for 100
    static constexpr int64_t kFirst = 128;
    static constexpr int64_t kGrowth = 4;

    /// @param node  borrowed
    NodeIterator(
            const FaissNode& node,
            std::vector<float> query,
            std::shared_ptr<const Parameters> parameters,
            std::shared_ptr<const RowFilter> filter)
            : node_(node),
              query_(std::move(query)),
              parameters_(std::move(parameters)),
              filter_(std::move(filter)) {}

 private:
    bool fetch() override {
        while (at_ == hits_.size() && !complete_) {
            int64_t passing = filter_->passing();
            SearchScope scope{factor_, false};
            if (parameters_->flag("retain_iterator_order") ||
                kFirst * factor_ >= passing) {
                scope = kWholeIndex;
            }
            Hits more = node_.next_nearest(
                    query_,
                    scope.complete ? passing : kFirst * factor_,
                    *parameters_,
                    *filter_,
                    scope);
            std::erase_if(more, [&](const auto& hit) {
                return !seen_.insert(hit.first).second;
            });
            hits_ = std::move(more);
            at_ = 0;
            factor_ *= kGrowth;
            complete_ = scope.complete;
        }
        return at_ < hits_.size();
    }

    const FaissNode& node_;
    std::vector<float> query_;
    std::shared_ptr<const Parameters> parameters_;
    std::shared_ptr<const RowFilter> filter_;
    std::unordered_set<int64_t> seen_;
    int64_t factor_ = 1;
    bool complete_ = false;
};

/// What an index gives for one query, and what that borrows.
struct FaissNode::Pieces {
    std::shared_ptr<const NodeIndex::Reading> index; ///< a version
    std::shared_ptr<const RowFilter> filter;
    std::unique_ptr<RowsInPieces> rows;
};

/** Goes on in the version that the index had when it was made: rows that were
 * added since do not come. Nearest first within each piece. */
class PieceIterator : public HitIterator {
 public:
    /// @param node  borrowed
    PieceIterator(const FaissNode& node, FaissNode::Pieces pieces)
            : node_(node), pieces_(std::move(pieces)) {}

 private:
    bool fetch() override {
        if (at_ == hits_.size() && !ended_) {
            hits_ = node_.next_piece(pieces_);
            at_ = 0;
            ended_ = hits_.empty();
        }
        return at_ < hits_.size();
    }

    const FaissNode& node_;
    FaissNode::Pieces pieces_;
    bool ended_ = false;
};

} // namespace knowhere_plugin
