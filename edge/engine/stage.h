// The geometry of one camera, as stage.cu and edge/engine/stage.py both lay it out: 4-byte members only, no padding.
#ifndef EDGE_ENGINE_STAGE_H
#define EDGE_ENGINE_STAGE_H

struct Pinhole {
    int width, height;      // pixels
    float fx, fy, cx, cy;   // pixels; u and v are 0-based pixel centers
};

struct Rig {
    Pinhole depth, color;
    float rotation[9];      // depth to color coordinates, column by column, as librealsense keeps it
    float translation[3];   // meters
    float unit_m;           // meters per depth count
    int both_corners;       // 1: a depth pixel covers a rectangle of color pixels; 0: one pixel, that of its top left corner
    int crop_x, crop_y, crop_width, crop_height;   // window of the color image, wholly inside it
};

#endif
