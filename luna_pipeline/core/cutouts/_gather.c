/* Copy boxes of voxels out of a CT and clip them to a window, in one pass over memory.
 *
 * NumPy does the same in gather.py and is the reference; here each row is read once, clipped on the way, and the
 * row below is asked for beforehand: most of the time goes into waiting for memory.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define ASK_FOR(place) __builtin_prefetch(place)
#else
#define ASK_FOR(place) ((void)0)
#endif

static void copy_boxes(const int16_t *ct, const int64_t size[3], const int64_t *starts, int64_t count,
                       const int64_t shape[3], int16_t lower, int16_t upper, int16_t *out)
{
    const int64_t row_step = size[2], slice_step = size[1] * size[2];
    for (int64_t box = 0; box < count; box++) {
        const int64_t *start = starts + 3 * box;
        const int16_t *corner = ct + start[0] * slice_step + start[1] * row_step + start[2];
        for (int64_t i = 0; i < shape[0]; i++) {
            for (int64_t r = 0; r < shape[1]; r++) {
                const int16_t *row = corner + i * slice_step + r * row_step;
                /* An address beyond the CT is asked for without harm and never read. */
                for (int64_t c = 0; c < shape[2]; c += 32)
                    ASK_FOR((const char *)row + 2 * (slice_step + c));
                ASK_FOR((const char *)row + 2 * (slice_step + shape[2] - 1));
                for (int64_t c = 0; c < shape[2]; c++) {
                    int16_t value = row[c];
                    value = value < lower ? lower : value;
                    out[c] = value > upper ? upper : value;
                }
                out += shape[2];
            }
        }
    }
}

/* copy_clipped(ct, size, starts, shape, lower, upper, out): buffers of int16, int64; see gather.py. */
static PyObject *copy_clipped(PyObject *self, PyObject *args)
{
    Py_buffer ct, starts, out;
    long long size[3], shape[3];
    short lower, upper;
    (void)self;
    if (!PyArg_ParseTuple(args, "y*(LLL)y*(LLL)hhw*", &ct, &size[0], &size[1], &size[2], &starts, &shape[0],
                          &shape[1], &shape[2], &lower, &upper, &out))
        return NULL;
    const int64_t count = starts.len / (3 * (Py_ssize_t)sizeof(int64_t));
    const int64_t *corners = starts.buf;
    const int64_t size64[3] = {size[0], size[1], size[2]}, shape64[3] = {shape[0], shape[1], shape[2]};
    int is_right = ct.len == 2 * size[0] * size[1] * size[2]
                   && out.len == 2 * count * shape[0] * shape[1] * shape[2];
    for (int64_t place = 0; is_right && place < 3 * count; place++)
        is_right = corners[place] >= 0 && corners[place] + shape64[place % 3] <= size64[place % 3];
    if (is_right) {
        Py_BEGIN_ALLOW_THREADS
        copy_boxes(ct.buf, size64, corners, count, shape64, lower, upper, out.buf);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&ct);
    PyBuffer_Release(&starts);
    PyBuffer_Release(&out);
    if (!is_right) {
        PyErr_SetString(PyExc_ValueError, "Boxes must lie in the CT and fill the result, got others.");
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"copy_clipped", copy_clipped, METH_VARARGS, "Copy boxes out of a CT, clipped to a window."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_gather", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__gather(void)
{
    return PyModule_Create(&module);
}
