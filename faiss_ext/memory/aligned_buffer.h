/* Memory that the kernels read: 64-byte aligned, growable. A buffer owns it, or
 * has it lent by an arena until it grows beyond its part, or borrows it from a
 * mapped file until it is first written to. */

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace faiss_ext {

constexpr size_t kAlignment = 64;

constexpr size_t round_up(size_t n, size_t unit) {
    return (n + unit - 1) / unit * unit;
}

/** A vector of trivially copyable elements, aligned to kAlignment.
 *
 * New elements are zeros. borrow() makes a view of memory that the caller keeps
 * alive; mutable access copies such a view first. lend() gives a buffer memory
 * to fill, which the caller frees. All mutators leave the buffer unchanged when
 * they throw std::bad_alloc.
 */
template <class T>
class AlignedBuffer {
    static_assert(std::is_trivially_copyable_v<T>);

 public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(size_t n) {
        resize(n);
    }
    AlignedBuffer(const AlignedBuffer& other) {
        reserve_exactly(other.size_);
        copy_in(other.data(), other.size_);
    }
    AlignedBuffer(AlignedBuffer&& other) noexcept {
        swap(other);
    }
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        swap(other);
        return *this;
    }
    ~AlignedBuffer() {
        if (storage_ == Storage::Owned) {
            std::free(memory_.writable);
        }
    }

    static AlignedBuffer borrow(const T* data, size_t n) {
        AlignedBuffer view;
        view.memory_.borrowed = data;
        view.size_ = view.capacity_ = n;
        view.storage_ = Storage::Borrowed;
        return view;
    }
    /// Empty, with room for `capacity` elements at `data`, aligned to
    /// kAlignment.
    static AlignedBuffer lend(T* data, size_t capacity) {
        AlignedBuffer part;
        part.memory_.writable = data;
        part.capacity_ = capacity;
        part.storage_ = Storage::Lent;
        return part;
    }

    const T* data() const {
        return storage_ == Storage::Borrowed ? memory_.borrowed
                                             : memory_.writable;
    }
    T* mutable_data() {
        own();
        return memory_.writable;
    }
    const T& operator[](size_t i) const {
        return data()[i];
    }
    const T* begin() const {
        return data();
    }
    const T* end() const {
        return data() + size_;
    }
    size_t size() const {
        return size_;
    }
    bool empty() const {
        return size_ == 0;
    }
    size_t capacity() const {
        return capacity_;
    }
    bool is_borrowed() const {
        return storage_ == Storage::Borrowed;
    }
    bool is_lent() const {
        return storage_ == Storage::Lent;
    }
    /// bytes allocated by this
    size_t allocated_bytes() const {
        return storage_ == Storage::Owned ? capacity_ * sizeof(T) : 0;
    }

    /// Grows as reserve() does.
    void resize(size_t n) {
        reserve(n);
        if (n > size_) {
            std::memset(memory_.writable + size_, 0, (n - size_) * sizeof(T));
        }
        size_ = n;
    }

    /// Makes room to write n elements. Memory that is there grows by half at
    /// least, so that adding often does not copy often.
    void reserve(size_t n) {
        if (n > capacity_) {
            size_t grown = capacity_ + capacity_ / 2;
            reallocate(size_ == 0 || grown < n ? n : grown);
        } else {
            own();
        }
    }

    void reserve_exactly(size_t n) {
        if (n > capacity_) {
            reallocate(n);
        }
    }

    /// Gives back what resize() allocated in advance.
    void shrink_to_fit() {
        if (storage_ == Storage::Owned && capacity_ > size_) {
            reallocate(size_);
        }
    }

    void clear() {
        *this = AlignedBuffer();
    }

    void swap(AlignedBuffer& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        std::swap(storage_, other.storage_);
    }

 private:
    enum class Storage : uint8_t { Owned, Lent, Borrowed };

    void own() {
        if (storage_ == Storage::Borrowed) {
            reallocate(size_);
        }
    }

    void reallocate(size_t n) {
        if (n > PTRDIFF_MAX / sizeof(T)) {
            throw std::bad_alloc();
        }
        T* fresh = nullptr;
        if (n > 0) {
            size_t bytes =
                    (n * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
            fresh = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
            if (fresh == nullptr) {
                throw std::bad_alloc();
            }
            if (size_ > 0) {
                std::memcpy(fresh, data(), size_ * sizeof(T));
            }
        }
        if (storage_ == Storage::Owned) {
            std::free(memory_.writable);
        }
        memory_.writable = fresh;
        capacity_ = n;
        storage_ = Storage::Owned;
    }

    void copy_in(const T* source, size_t n) {
        if (n > 0) {
            std::memcpy(memory_.writable, source, n * sizeof(T));
        }
        size_ = n;
    }

    union Memory {
        T* writable = nullptr;
        const T* borrowed; ///< where storage_ is Borrowed
    };
    Memory memory_;
    size_t size_ = 0;
    size_t capacity_ = 0;
    Storage storage_ = Storage::Owned;
};

} // namespace faiss_ext
