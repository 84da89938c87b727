/*
 * Iterator over a node: first what a usual search finds, then a complete
 * scan for the rest.
 */

#pragma once

#include <memory>
#include <unordered_set>
#include <vector>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

class NodeIterator : public Iterator {
 public:
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

 private:
    /// rows of the first search: what most callers read, and no more than a
    /// search for a hundred costs
    static constexpr int64_t kFirst = 128;

    /// @return whether hits_[at_] is there
    bool fetch() {
        if (at_ < hits_.size()) {
            return true;
        }
        if (complete_) {
            return false;
        }
        complete_ = started_ || parameters_->flag("retain_iterator_order") ||
                    filter_->passing() <= kFirst;
        started_ = true;
        std::unordered_set<int64_t> seen;
        for (const auto& hit : hits_) {
            seen.insert(hit.first);
        }
        auto more = node_.hits_of(
                query_,
                complete_ ? filter_->passing() : kFirst,
                *parameters_,
                *filter_,
                complete_ ? Reach::Complete : Reach::Usual);
        std::erase_if(
                more, [&](const auto& hit) { return seen.count(hit.first); });
        hits_ = std::move(more);
        at_ = 0;
        return complete_ ? !hits_.empty() : fetch();
    }

    const FaissNode& node_;
    std::vector<float> query_;
    std::shared_ptr<const Parameters> parameters_;
    std::shared_ptr<const RowFilter> filter_;
    FaissNode::Hits hits_;
    size_t at_ = 0;
    bool started_ = false;
    bool complete_ = false;
};

} // namespace knowhere_plugin
