/* Memory that the kernels read: 64-byte aligned, growable, owned, or borrowed
 * from a mapped file until it is first written to. */

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

/** A vector of trivially copyable elements, aligned to kAlignment.
 *
 * New elements are zeros. borrow() makes it a view of memory that somebody
 * else keeps alive; mutable access copies such a view first. All mutators
 * leave the buffer unchanged when they throw std::bad_alloc.
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
        copy_in(other.data_, other.size_);
    }
    AlignedBuffer(AlignedBuffer&& other) noexcept {
        swap(other);
    }
    AlignedBuffer& operator=(AlignedBuffer other) noexcept {
        swap(other);
        return *this;
    }
    ~AlignedBuffer() {
        if (!borrowed_) {
            std::free(data_);
        }
    }

    static AlignedBuffer borrow(const T* data, size_t n) {
        AlignedBuffer view;
        view.data_ = const_cast<T*>(data);
        view.size_ = view.capacity_ = n;
        view.borrowed_ = true;
        return view;
    }

    const T* data() const {
        return data_;
    }
    T* mutable_data() {
        own();
        return data_;
    }
    const T& operator[](size_t i) const {
        return data_[i];
    }
    size_t size() const {
        return size_;
    }
    bool empty() const {
        return size_ == 0;
    }
    bool is_borrowed() const {
        return borrowed_;
    }
    /// bytes allocated (0 for a borrowed view)
    size_t allocated_bytes() const {
        return borrowed_ ? 0 : capacity_ * sizeof(T);
    }

    /// Grows by half when it must, like std::vector; see reserve_exactly().
    void resize(size_t n) {
        if (n > capacity_) {
            size_t grown = capacity_ + capacity_ / 2;
            reallocate(size_ == 0 || grown < n ? n : grown);
        } else {
            own();
        }
        if (n > size_) {
            std::memset(data_ + size_, 0, (n - size_) * sizeof(T));
        }
        size_ = n;
    }

    void reserve_exactly(size_t n) {
        if (n > capacity_) {
            reallocate(n);
        }
    }

    /// Gives back what resize() allocated in advance.
    void shrink_to_fit() {
        if (!borrowed_ && capacity_ > size_) {
            reallocate(size_);
        }
    }

    void clear() {
        *this = AlignedBuffer();
    }

    void swap(AlignedBuffer& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        std::swap(borrowed_, other.borrowed_);
    }

 private:
    void own() {
        if (borrowed_) {
            reallocate(size_);
        }
    }

    void reallocate(size_t n) {
        T* fresh = nullptr;
        if (n > 0) {
            size_t bytes =
                    (n * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
            fresh = static_cast<T*>(std::aligned_alloc(kAlignment, bytes));
            if (fresh == nullptr) {
                throw std::bad_alloc();
            }
            if (size_ > 0) {
                std::memcpy(fresh, data_, size_ * sizeof(T));
            }
        }
        if (!borrowed_) {
            std::free(data_);
        }
        data_ = fresh;
        capacity_ = n;
        borrowed_ = false;
    }

    void copy_in(const T* source, size_t n) {
        if (n > 0) {
            std::memcpy(data_, source, n * sizeof(T));
        }
        size_ = n;
    }

    T* data_ = nullptr;
    size_t size_ = 0;
    size_t capacity_ = 0;
    bool borrowed_ = false;
};

} // namespace faiss_ext
