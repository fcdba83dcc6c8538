// Depth aligned to color with a z-buffer, then both cropped to the graph's window.
//
// The arithmetic, its order and its rounding are those of librealsense's align for the CPU, which is the oracle: compiled
// without fused multiply-add (g++ -ffp-contract=off, nvcc -fmad=false) it gives the same counts. The functions marked
// HOST_DEVICE are the same for both compilers; a machine without a GPU runs them in the *_host loops at the end.
#include <stdint.h>

#include "stage.h"

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

struct Box {
    int x0, y0, x1, y1;     // color pixels, inclusive
};

// The color pixel that holds the point at depth_m meters seen at (u, v) of the depth image; not checked against its borders.
HOST_DEVICE inline void color_pixel(float u, float v, float depth_m, const Rig& rig, int* x, int* y) {
    const float px = depth_m * ((u - rig.depth.cx) / rig.depth.fx);
    const float py = depth_m * ((v - rig.depth.cy) / rig.depth.fy);
    const float* r = rig.rotation;
    const float* t = rig.translation;
    const float qx = r[0] * px + (r[3] * py + (r[6] * depth_m + t[0]));
    const float qy = r[1] * px + (r[4] * py + (r[7] * depth_m + t[1]));
    const float qz = r[2] * px + (r[5] * py + (r[8] * depth_m + t[2]));
    *x = static_cast<int>((qx / qz) * rig.color.fx + rig.color.cx + 0.5f);
    *y = static_cast<int>((qy / qz) * rig.color.fy + rig.color.cy + 0.5f);
}

// Color pixels that one depth reading covers, cut at the borders of the color image; empty (x1 < x0) when it misses it.
HOST_DEVICE inline Box covered(int u, int v, unsigned count, const Rig& rig) {
    const float depth_m = static_cast<float>(count) * rig.unit_m;
    Box box;
    color_pixel(u - 0.5f, v - 0.5f, depth_m, rig, &box.x0, &box.y0);
    box.x1 = box.x0;
    box.y1 = box.y0;
    if (rig.both_corners) color_pixel(u + 0.5f, v + 0.5f, depth_m, rig, &box.x1, &box.y1);
    if (box.x0 < 0) box.x0 = 0;
    if (box.y0 < 0) box.y0 = 0;
    if (box.x1 >= rig.color.width) box.x1 = rig.color.width - 1;
    if (box.y1 >= rig.color.height) box.y1 = rig.color.height - 1;
    return box;
}

// What a z-buffer of 32 bits holds of a pixel nothing covers, and its count in the cropped image.
#define NOTHING 0xffffffffu

HOST_DEVICE inline uint16_t count_of(unsigned nearest) {
    return nearest == NOTHING ? 0 : static_cast<uint16_t>(nearest);
}

// Index in the whole color image of pixel i of the window.
HOST_DEVICE inline int whole_index(int i, const Rig& rig) {
    return (i / rig.crop_width + rig.crop_y) * rig.color.width + i % rig.crop_width + rig.crop_x;
}

#ifdef __CUDACC__

extern "C" __global__ void clear_nearest(unsigned* nearest, Rig rig) {
    const int n = rig.color.width * rig.color.height;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) nearest[i] = NOTHING;
}

extern "C" __global__ void align_depth(const uint16_t* depth, unsigned* nearest, Rig rig) {
    const int n = rig.depth.width * rig.depth.height;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const unsigned count = depth[i];
        if (count == 0) continue;
        const Box box = covered(i % rig.depth.width, i / rig.depth.width, count, rig);
        for (int y = box.y0; y <= box.y1; ++y)
            for (int x = box.x0; x <= box.x1; ++x) atomicMin(&nearest[y * rig.color.width + x], count);
    }
}

// The graph's inputs: depth as counts (little endian bytes), color as it is.
extern "C" __global__ void crop_both(
    const unsigned* nearest, const uint8_t* color, uint16_t* depth_out, uint8_t* color_out, Rig rig) {
    const int n = rig.crop_width * rig.crop_height;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const int from = whole_index(i, rig);
        depth_out[i] = count_of(nearest[from]);
        for (int channel = 0; channel < 3; ++channel) color_out[3 * i + channel] = color[3 * from + channel];
    }
}

#else

#include <vector>

// The same three steps for one thread of the CPU.
extern "C" void stage_host(
    const uint16_t* depth, const uint8_t* color, uint16_t* depth_out, uint8_t* color_out, const Rig* rig_of_camera) {
    const Rig& rig = *rig_of_camera;
    std::vector<unsigned> nearest(rig.color.width * rig.color.height, NOTHING);
    for (int v = 0; v < rig.depth.height; ++v) {
        for (int u = 0; u < rig.depth.width; ++u) {
            const unsigned count = depth[v * rig.depth.width + u];
            if (count == 0) continue;
            const Box box = covered(u, v, count, rig);
            for (int y = box.y0; y <= box.y1; ++y) {
                for (int x = box.x0; x <= box.x1; ++x) {
                    unsigned& there = nearest[y * rig.color.width + x];
                    if (count < there) there = count;
                }
            }
        }
    }
    for (int i = 0; i < rig.crop_width * rig.crop_height; ++i) {
        const int from = whole_index(i, rig);
        depth_out[i] = count_of(nearest[from]);
        for (int channel = 0; channel < 3; ++channel) color_out[3 * i + channel] = color[3 * from + channel];
    }
}

#endif
