"""The C of a Python extension module around a policy's generated C.

The module offers

- `params(obs, state, out)`: `kd_params` of every row of float32 buffers `[B, O]`, `[B, S]` (None without
  a memory) into `[B, P]`, in blocks where `batches` has them; the state is updated in place;
- `bind(slow, make)`: a function of one observation that answers with the greedy action of a float32,
  float64 or uint8 buffer of the right shape and finite values, and hands everything else to `slow`.
  For Discrete, `make` is a tuple of the actions' objects; else a function that makes an empty array.

Numbers and shapes are the only things inserted, never text.
"""

from kd_agent.native import batches
from kd_agent.policies import PolicyGraph

_TYPES = {
    "float32": "float",
    "float64": "double",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
}


def module_text(graph: PolicyGraph) -> str:
    """The module's source; it includes `policy.c`."""
    return "\n".join([_CHECKS, '#include "policy.c"', _macros(graph), batches.text(graph), _MODULE])


def plain_text(graph: PolicyGraph) -> str:
    """A library without Python in it: `kd_batch(obs, state, out, n)`."""
    return "\n".join(["#include <string.h>", '#include "policy.c"', _macros(graph), batches.text(graph), _BATCH])


def is_direct(graph: PolicyGraph) -> bool:
    """Whether `bind` serves the policy: one array in, no memory, an action type that C has."""
    spec = next(iter(graph.observations.values()))
    # A Discrete action is made by Python, whatever its dtype.
    known = graph.head.kind == "categorical" or graph.head.dtype in _TYPES
    return list(graph.observations) == ["obs"] and not graph.states and known and spec.dtype != "bool"


def _macros(graph: PolicyGraph) -> str:
    """What the C below needs to know of the policy; `policy.h` says the rest."""
    head = graph.head
    shape = next(iter(graph.observations.values())).shape
    call, no_states = "kd_params(obs, state, out)", ""
    if not graph.states:
        call, no_states = "kd_params(obs, out)", "#define KD_STATE_SIZE 0"
    is_discrete = head.kind == "categorical"
    start = head.start[0] if is_discrete else 0
    # C has no arrays of size 0, so the shape of a scalar ends in a 0 that nothing reads.
    sizes = ", ".join(map(str, (*shape, 0)))
    lines = [
        f"#define KD_ROW(obs, state, out) {call}",
        no_states,
        f"#define KD_DIRECT {int(is_direct(graph))}",
        f"#define KD_DISCRETE {int(is_discrete)}",
        f"#define KD_START ({start})",
        f"#define KD_RANK {len(shape)}",
        f"static const long kd_shape[] = {{{sizes}}};",
        f"typedef {_TYPES.get(head.dtype, 'float')} kd_element;",
    ]
    return "\n".join(lines)


_CHECKS = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>
"""

_BATCH = """
__attribute__((visibility("default")))
void kd_batch(const float *obs, float *state, float *out, long n) {
    (void)state;
    (void)kd_shape;
#ifdef KD_LANES
    if (n >= KD_LANES) {
        for (long done = 0; done < n; done += KD_LANES) {
            /* The last block begins early enough to be whole. */
            const long row = done + KD_LANES <= n ? done : n - KD_LANES;
            kd_block(obs + row * KD_OBS_SIZE, out + row * KD_NUM_PARAMS);
        }
        return;
    }
#endif
    for (long row = 0; row < n; row++) {
        KD_ROW(obs + row * KD_OBS_SIZE, state + row * KD_STATE_SIZE, out + row * KD_NUM_PARAMS);
    }
}
"""

_MODULE = (
    _BATCH
    + r"""
static int kd_floats(PyObject *object, Py_buffer *view, Py_ssize_t columns, int writable, Py_ssize_t *rows) {
    const int flags = PyBUF_FORMAT | PyBUF_C_CONTIGUOUS | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(object, view, flags) != 0) return -1;
    const Py_ssize_t count = view->len / 4 / columns;
    if (strcmp(view->format, "f") != 0 || count * columns * 4 != view->len || (*rows >= 0 && count != *rows)) {
        PyBuffer_Release(view);
        PyErr_SetString(PyExc_ValueError, "a buffer is not of float32 or has the wrong length");
        return -1;
    }
    *rows = count;
    return 0;
}

static PyObject *kd_py_params(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    Py_buffer obs, state, out;
    Py_ssize_t rows = -1;
    (void)module;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "params() takes 3 arguments");
    if (kd_floats(args[0], &obs, KD_OBS_SIZE, 0, &rows) != 0) return NULL;
    if (kd_floats(args[2], &out, KD_NUM_PARAMS, 1, &rows) != 0) goto no_out;
    state.buf = NULL;
    if (KD_STATE_SIZE && kd_floats(args[1], &state, KD_STATE_SIZE + !KD_STATE_SIZE, 1, &rows) != 0) goto no_state;
    Py_BEGIN_ALLOW_THREADS
    kd_batch((const float *)obs.buf, (float *)state.buf, (float *)out.buf, (long)rows);
    Py_END_ALLOW_THREADS
    if (KD_STATE_SIZE) PyBuffer_Release(&state);
    PyBuffer_Release(&out);
    PyBuffer_Release(&obs);
    Py_RETURN_NONE;
no_state:
    PyBuffer_Release(&out);
no_out:
    PyBuffer_Release(&obs);
    return NULL;
}

#if KD_DIRECT
/* Copies one observation as float32; 0 unless its type and shape are right and all of it is finite. */
static int kd_read(const Py_buffer *view, float *x) {
    if (view->ndim != KD_RANK) return 0;
    for (int axis = 0; axis < KD_RANK; axis++) {
        if (view->shape[axis] != kd_shape[axis]) return 0;
    }
    if (view->len != view->itemsize * KD_OBS_SIZE || view->format[0] == 0 || view->format[1] != 0) return 0;
    if (view->format[0] == 'f' && view->itemsize == 4) {
        memcpy(x, view->buf, 4 * KD_OBS_SIZE);
    } else if (view->format[0] == 'd' && view->itemsize == 8) {
        const char *from = (const char *)view->buf;
        double number;
        for (int i = 0; i < KD_OBS_SIZE; i++) {
            memcpy(&number, from + 8 * i, 8);
            x[i] = (float)number;
        }
    } else if (view->format[0] == 'B') {
        for (int i = 0; i < KD_OBS_SIZE; i++) x[i] = (float)((const unsigned char *)view->buf)[i];
    } else {
        return 0;
    }
    int32_t largest = 0, bits;
    for (int i = 0; i < KD_OBS_SIZE; i++) {
        memcpy(&bits, x + i, 4);
        bits &= INT32_MAX;
        largest = bits > largest ? bits : largest;
    }
    return largest < 0x7f800000;
}

static PyObject *kd_action(PyObject *make, const float *x) {
#if KD_DISCRETE
    const int action = kd_act(x);
    return Py_NewRef(PyTuple_GET_ITEM(make, action - KD_START));
#else
    float action[KD_ACTION_SIZE];
    Py_buffer view;
    PyObject *array = PyObject_CallNoArgs(make);
    if (array == NULL) return NULL;
    if (PyObject_GetBuffer(array, &view, PyBUF_WRITABLE) != 0) {
        Py_DECREF(array);
        return NULL;
    }
    kd_act(x, action);
    if (view.len == (Py_ssize_t)sizeof(kd_element) * KD_ACTION_SIZE) {
        for (int i = 0; i < KD_ACTION_SIZE; i++) ((kd_element *)view.buf)[i] = (kd_element)action[i];
    }
    PyBuffer_Release(&view);
    return array;
#endif
}

/* self is the tuple (slow, make). Whoever gives more than an observation, a mask say, is answered by `slow`. */
static PyObject *kd_py_act(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    float x[KD_OBS_SIZE];
    Py_buffer view;
    if (count != 1 || names != NULL) return PyObject_Vectorcall(PyTuple_GET_ITEM(self, 0), args, (size_t)count, names);
    PyObject *observation = args[0];
    if (PyObject_CheckBuffer(observation) && !PyBytes_Check(observation)) {
        if (PyObject_GetBuffer(observation, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) == 0) {
            const int good = kd_read(&view, x);
            PyBuffer_Release(&view);
            if (good) return kd_action(PyTuple_GET_ITEM(self, 1), x);
        } else {
            PyErr_Clear();
        }
    }
    return PyObject_CallOneArg(PyTuple_GET_ITEM(self, 0), observation);
}

static PyMethodDef kd_act_method = {"act", (PyCFunction)(void (*)(void))kd_py_act, METH_FASTCALL | METH_KEYWORDS,
                                    "The greedy action of one observation."};

static PyObject *kd_py_bind(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "bind() takes 2 arguments");
#if KD_DISCRETE
    if (!PyTuple_Check(args[1]) || PyTuple_GET_SIZE(args[1]) != KD_NUM_ACTIONS) {
        return PyErr_Format(PyExc_TypeError, "bind() takes a tuple of the actions");
    }
#endif
    PyObject *self = PyTuple_Pack(2, args[0], args[1]);
    if (self == NULL) return NULL;
    PyObject *bound = PyCFunction_New(&kd_act_method, self);
    Py_DECREF(self);
    return bound;
}
#endif

static PyMethodDef kd_methods[] = {
    {"params", (PyCFunction)(void (*)(void))kd_py_params, METH_FASTCALL, "Parameters of a batch."},
#if KD_DIRECT
    {"bind", (PyCFunction)(void (*)(void))kd_py_bind, METH_FASTCALL, "A function of one observation."},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef kd_module = {PyModuleDef_HEAD_INIT, "kd_native", NULL, 0, kd_methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_kd_native(void) {
    (void)kd_shape;
    return PyModuleDef_Init(&kd_module);
}
"""
)
