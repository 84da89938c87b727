/* Times of the stages of a search, for ScaNNSearchStats. */

#pragma once

#include <chrono>

namespace faiss_ext {

/// Adds the seconds of a scope to a total, if the caller asked for statistics.
class StageTimer {
 public:
    /// @param wanted  false: does nothing
    StageTimer(bool wanted, double& total) : total_(wanted ? &total : nullptr) {
        if (total_ != nullptr) {
            start_ = std::chrono::steady_clock::now();
        }
    }
    ~StageTimer() {
        if (total_ != nullptr) {
            std::chrono::duration<double> spent =
                    std::chrono::steady_clock::now() - start_;
            *total_ += spent.count();
        }
    }

 private:
    double* total_;
    std::chrono::steady_clock::time_point start_;
};

} // namespace faiss_ext
