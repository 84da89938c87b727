#include <faiss_ext/versioned_scann.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/index/set_model.h>
#include <faiss_ext/memory/per_process.h>
#include <faiss_ext/memory/retired_memory.h>
#include <faiss_ext/memory/shared_slot.h>
#include <faiss_ext/model/index_state.h>
#include <faiss_ext/wrappers/clone.h>

namespace faiss_ext {

struct VersionedScaNN::Impl {
    /// A version, and what it alone shows once it is replaced.
    struct Holder {
        std::shared_ptr<RetiredMemory> retired =
                std::make_shared<RetiredMemory>();
        IndexIVFScaNN index; // destroyed before what it shows

        /// Shows nothing yet. All memory that a version needs is allocated here.
        explicit Holder(const IndexIVFScaNN& of)
                : index(of.quantizer,
                        size_t(of.d),
                        of.nlist,
                        of.metric_type,
                        of.options) {
            const IndexState& state = of.state();
            take_lists(
                    index,
                    {state.lists->new_view(),
                     state.spilled ? state.spilled->new_view() : nullptr});
        }

        /// Shows this state of the index; does not fail.
        void show(IndexIVFScaNN& of) noexcept {
            IndexState& from = of.state();
            IndexState& to = index.state();
            to.model = from.model;
            to.partition = from.partition;
            to.quantizer_is_flat = from.quantizer_is_flat;
            to.fit = from.fit;
            index.options = of.options;
            index.quantizer = of.quantizer;
            copy_settings(of, index);
            from.lists->show(*to.lists, *retired);
            if (from.spilled != nullptr) {
                from.spilled->show(*to.spilled, *retired);
            }
            from.retired = retired.get();
        }
    };

    using Writer = RetiredMemory::Holding<std::unique_ptr<IndexIVFScaNN>>;

    /// What a child of fork() has to have for itself: threads of the parent that
    /// were reading or changing the index are not there.
    struct Shared {
        SharedSlot<const IndexIVFScaNN> version;
        /// that changes the index, or none
        std::atomic<std::thread::id> changing;
        /// when this process was forked, another thread was changing it
        bool half_changed = false;
    };

    std::unique_ptr<Writer> writer;
    std::shared_ptr<Holder> last; ///< that of the version
    PerProcess<Shared> shared;

    Shared& here() const {
        return shared.here(
                [](const Shared&) { return false; },
                [](const Shared& parents, Shared& fresh) {
                    const std::thread::id changing = parents.changing;
                    fresh.version.store(parents.version.whole());
                    fresh.half_changed =
                            parents.half_changed ||
                            (changing != std::thread::id() &&
                             changing != std::this_thread::get_id());
                });
    }

    /// The right to change the index, or to keep others from it.
    class Turn {
     public:
        /// @throws faiss::FaissException if it is another call's, unless `waits`
        Turn(const Impl& impl, bool waits) : impl_(impl) {
            Shared& here = impl.here();
            FAISS_THROW_IF_NOT_MSG(
                    !here.half_changed,
                    "another thread was changing the index when this process "
                    "was forked: here it is half changed; make or read it "
                    "anew");
            std::thread::id other;
            while (!here.changing.compare_exchange_strong(
                    other, std::this_thread::get_id())) {
                FAISS_THROW_IF_NOT_MSG(
                        waits,
                        "another call changes this index (allowed: one at a "
                        "time)");
                here.changing.wait(other);
                other = std::thread::id();
            }
        }
        ~Turn() {
            std::atomic<std::thread::id>& changing = impl_.here().changing;
            changing = std::thread::id();
            changing.notify_all();
        }
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;

     private:
        const Impl& impl_;
    };

    /// Does not fail.
    void publish(std::shared_ptr<Holder> next) noexcept {
        next->show(*writer->value);
        if (last != nullptr) {
            last->retired->set_next(next->retired);
        }
        last = std::move(next);
        here().version.store(Version(last, &last->index));
    }
};

VersionedScaNN::VersionedScaNN(std::unique_ptr<IndexIVFScaNN> index)
        : impl_(std::make_unique<Impl>()) {
    FAISS_THROW_IF_NOT_MSG(index != nullptr, "no index (allowed: one)");
    check_trained(index->state());
    IndexState& state = index->state();
    auto first = std::make_shared<Impl::Holder>(*index);
    state.lists->begin_versions(*first->retired);
    if (state.spilled != nullptr) {
        state.spilled->begin_versions(*first->retired);
    }
    impl_->writer = std::make_unique<Impl::Writer>(std::move(index));
    impl_->publish(std::move(first));
}

VersionedScaNN::~VersionedScaNN() {
    if (impl_->here().half_changed) {
        (void)impl_.release(); // it cannot be freed safely
        return;
    }
    // versions that somebody holds show memory of the writer
    impl_->last->retired->keep(std::move(impl_->writer));
}

VersionedScaNN::Version VersionedScaNN::version() const {
    return impl_->here().version.load();
}

void VersionedScaNN::change(const std::function<void(IndexIVFScaNN&)>& change) {
    const Impl::Turn turn(*impl_, false);
    IndexIVFScaNN& writer = *impl_->writer->value;
    auto next = std::make_shared<Impl::Holder>(writer);
    try {
        change(writer);
    } catch (...) {
        // the same rows; perhaps in other memory
        impl_->publish(std::move(next));
        throw;
    }
    impl_->publish(std::move(next));
}

void VersionedScaNN::read(
        const std::function<void(const IndexIVFScaNN&)>& read) const {
    const Impl::Turn turn(*impl_, true);
    read(*impl_->writer->value);
}

ScaNNMaintenance VersionedScaNN::maintain(size_t rows, double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    ScaNNMaintenance done;
    for (;;) {
        done.seconds =
                std::chrono::duration<double>(Clock::now() - begin).count();
        const bool enough = (rows != 0 && done.rows >= rows) ||
                            (seconds != 0 && done.seconds >= seconds);
        if (enough) {
            return done;
        }
        ScaNNMaintenance step;
        change([&](IndexIVFScaNN& index) {
            step = index.maintain(1, seconds);
        });
        done.rows += step.rows;
        done.lists += step.lists;
        done.finished = step.finished;
        if (step.lists == 0) {
            return done;
        }
    }
}

} // namespace faiss_ext
