/*
 * Memory that was replaced while others may still read it.
 *
 * An index that is written to while it is searched gives each search a version,
 * which shows memory that no change writes to: a change copies, and what it
 * replaces is retired. A chain of these objects, one for each version, frees it
 * as soon as no version is left that shows it: a version holds its own object,
 * each object holds the next one, and what is replaced after a version was made
 * is kept by the object of that version.
 */

#pragma once

#include <memory>
#include <utility>

namespace faiss_ext {

class RetiredMemory {
 public:
    /// Something that is freed by its destructor.
    class Item {
     public:
        virtual ~Item() = default;

     private:
        friend class RetiredMemory;
        std::unique_ptr<Item> next_;
    };
    template <class T>
    struct Holding : Item {
        T value;
        explicit Holding(T given = T()) : value(std::move(given)) {}
    };

    RetiredMemory() = default;
    RetiredMemory(const RetiredMemory&) = delete;
    RetiredMemory& operator=(const RetiredMemory&) = delete;
    ~RetiredMemory() {
        while (items_ != nullptr) {
            items_ = std::move(items_->next_);
        }
        free_chain(std::move(next_));
    }

    /// Does not fail.
    void keep(std::unique_ptr<Item> item) noexcept {
        item->next_ = std::move(items_);
        items_ = std::move(item);
    }
    /// That of the next version; once.
    void set_next(std::shared_ptr<RetiredMemory> next) noexcept {
        next_ = std::move(next);
    }

 private:
    /// Frees the objects that nobody else holds one after the other, since a
    /// chain may be too long for recursion.
    static void free_chain(std::shared_ptr<RetiredMemory> chain) noexcept {
        // where a destructor that was called by this loop leaves its next one
        thread_local std::shared_ptr<RetiredMemory>* rest = nullptr;
        if (rest != nullptr) {
            *rest = std::move(chain);
            return;
        }
        while (chain != nullptr) {
            std::shared_ptr<RetiredMemory> after;
            rest = &after;
            chain.reset();
            rest = nullptr;
            chain = std::move(after);
        }
    }

    std::unique_ptr<Item> items_;
    std::shared_ptr<RetiredMemory> next_;
};

} // namespace faiss_ext
