/* The compiled form of `pcj.serialize._plain_data`: a node as bytes, for the common case.
 *
 * It is optional. Where there was no compiler, or PCJ_PURE is set, the same is done in Python; what this does not know
 * (a name that was not seen before, an attribute in a namespace, a text that is no str, a character that XML lacks) it
 * leaves to the long way in Python, which says what is wrong with it. No rule is written here that is not there.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* As MAX_DEPTH in serialize.py. */
#define MAX_DEPTH 256

static PyObject *element_type;
static PyObject *name_tag, *name_attrib, *name_text, *name_tail, *xml_namespace;

typedef struct {
    char *data;
    Py_ssize_t size;
    Py_ssize_t room;
    char small[2048];
} Buffer;

/* 1: written. 0: not for us. -1: an exception is set. */
typedef int Result;

static int reserve(Buffer *buffer, Py_ssize_t more)
{
    if (more <= buffer->room - buffer->size)
        return 1;
    if (more > PY_SSIZE_T_MAX / 4 - buffer->size) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t room = (buffer->size + more) * 2;
    char *data = PyMem_Malloc(room);
    if (data == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(data, buffer->data, buffer->size);
    if (buffer->data != buffer->small)
        PyMem_Free(buffer->data);
    buffer->data = data;
    buffer->room = room;
    return 1;
}

static Result add(Buffer *buffer, const char *data, Py_ssize_t size)
{
    if (reserve(buffer, size) < 0)
        return -1;
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    return 1;
}

/* A str that pcj wrote itself: the start of a tag, of an attribute. */
static Result add_known(Buffer *buffer, PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    return data == NULL ? -1 : add(buffer, data, size);
}

/* What a byte needs: 0 nothing; 1 an escape everywhere; 2 in an attribute only; 3 in text only; 4 XML lacks it;
 * 5 it begins a character that XML may lack. */
static const unsigned char needs[256] = {
    4, 4, 4, 4, 4, 4, 4, 4, 4, 2, 2, 4, 4, 1, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4,
    ['"'] = 2, ['&'] = 1, ['<'] = 1, ['>'] = 3, [0xEF] = 5,
};

static const char *reference(unsigned char byte)
{
    switch (byte) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\r': return "&#13;";
    case '\t': return "&#9;";
    default: return "&#10;";
    }
}

/* A str of the user's, escaped. */
static Result add_text(Buffer *buffer, PyObject *text, int in_attribute)
{
    if (!PyUnicode_CheckExact(text))
        return 0;
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    if (data == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear(); /* a surrogate */
        return 0;
    }
    if (reserve(buffer, size) < 0)
        return -1;
    Py_ssize_t from = 0;
    for (Py_ssize_t at = 0; at < size; at++) {
        unsigned char byte = (unsigned char)data[at];
        unsigned char need = needs[byte];
        if (need == 0 || need == (in_attribute ? 3 : 2))
            continue;
        if (need == 4)
            return 0;
        if (need == 5) { /* U+FFFE and U+FFFF are EF BF BE and EF BF BF */
            if ((unsigned char)data[at + 1] == 0xBF && (unsigned char)data[at + 2] >= 0xBE)
                return 0;
            continue;
        }
        const char *escaped = reference(byte);
        if (add(buffer, data + from, at - from) < 0 || add(buffer, escaped, (Py_ssize_t)strlen(escaped)) < 0)
            return -1;
        from = at + 1;
    }
    return add(buffer, data + from, size - from);
}

static Result add_attribute(Buffer *buffer, PyObject *starts, PyObject *name, PyObject *value)
{
    PyObject *start = PyDict_GetItemWithError(starts, name);
    if (start == NULL) {
        if (PyErr_Occurred())
            PyErr_Clear(); /* a name that cannot be hashed: the long way says so */
        return 0;
    }
    Result result = add_known(buffer, start);
    if (result > 0)
        result = add_text(buffer, value, 1);
    return result > 0 ? add(buffer, "\"", 1) : result;
}

static Result write_node(Buffer *buffer, PyObject *node, PyObject *inherited, PyObject *tags, PyObject *starts,
                         PyObject *defaults, int depth);

static Result write_children(Buffer *buffer, PyObject *node, PyObject *namespace, PyObject *tags, PyObject *starts,
                             int depth)
{
    /* The length anew each time: whatever changed the node meanwhile, nothing is read that is not there. */
    for (Py_ssize_t at = 0; at < PySequence_Size(node); at++) {
        PyObject *child = PySequence_GetItem(node, at);
        if (child == NULL)
            return -1;
        Result result = write_node(buffer, child, namespace, tags, starts, NULL, depth + 1);
        if (result > 0) {
            PyObject *tail = PyObject_GetAttr(child, name_tail);
            if (tail == NULL)
                result = -1;
            else {
                if (tail != Py_None)
                    result = add_text(buffer, tail, 0);
                Py_DECREF(tail);
            }
        }
        Py_DECREF(child);
        if (result <= 0)
            return result;
    }
    return 1;
}

static Result write_attributes(Buffer *buffer, PyObject *node, PyObject *starts, PyObject *defaults)
{
    PyObject *attributes = PyObject_GetAttr(node, name_attrib);
    if (attributes == NULL)
        return -1;
    Result result = PyDict_CheckExact(attributes) ? 1 : 0;
    Py_ssize_t place = 0;
    PyObject *name, *value;
    while (result > 0 && PyDict_Next(attributes, &place, &name, &value)) {
        /* Only then can no code of the user's run in the look-up, and change the dict that we walk over. */
        result = PyUnicode_CheckExact(name) ? add_attribute(buffer, starts, name, value) : 0;
    }
    place = 0;
    while (result > 0 && defaults != NULL && PyDict_Next(defaults, &place, &name, &value)) {
        PyObject *given = PyDict_GetItemWithError(attributes, name);
        if (given == NULL && PyErr_Occurred())
            result = -1;
        else if (given == NULL)
            result = add_attribute(buffer, starts, name, value);
    }
    Py_DECREF(attributes);
    return result;
}

static Result write_node(Buffer *buffer, PyObject *node, PyObject *inherited, PyObject *tags, PyObject *starts,
                         PyObject *defaults, int depth)
{
    if ((PyObject *)Py_TYPE(node) != element_type || depth > MAX_DEPTH)
        return 0;
    PyObject *tag = PyObject_GetAttr(node, name_tag);
    if (tag == NULL)
        return -1;
    PyObject *known = PyUnicode_CheckExact(tag) ? PyDict_GetItemWithError(tags, tag) : NULL;
    Py_DECREF(tag); /* the node keeps it */
    if (known == NULL || !PyTuple_CheckExact(known) || PyTuple_GET_SIZE(known) != 4)
        return PyErr_Occurred() ? -1 : 0;
    Py_INCREF(known); /* a name more, and the table may be emptied */
    PyObject *namespace = PyTuple_GET_ITEM(known, 0);
    PyObject *start = PyTuple_GET_ITEM(known, 1);
    PyObject *end = PyTuple_GET_ITEM(known, 3);
    int same = namespace == inherited ? 1 : PyObject_RichCompareBool(namespace, inherited, Py_EQ);
    int xml = same == 0 ? PyObject_RichCompareBool(namespace, xml_namespace, Py_EQ) : 0;
    Result result = same < 0 || xml < 0 ? -1 : !xml;
    if (!same)
        start = PyTuple_GET_ITEM(known, 2);
    if (result > 0)
        result = add_known(buffer, start);
    if (result > 0)
        result = write_attributes(buffer, node, starts, defaults);
    if (result > 0) {
        PyObject *text = PyObject_GetAttr(node, name_text);
        Py_ssize_t children = PySequence_Size(node);
        if (text == NULL || children < 0)
            result = -1;
        else if (text != Py_None && !PyUnicode_CheckExact(text))
            result = 0;
        else if (children == 0 && (text == Py_None || PyUnicode_GET_LENGTH(text) == 0))
            result = add(buffer, "/>", 2);
        else if (children && depth >= MAX_DEPTH)
            result = 0;
        else {
            result = add(buffer, ">", 1);
            if (result > 0 && text != Py_None)
                result = add_text(buffer, text, 0);
            if (result > 0 && children)
                result = write_children(buffer, node, namespace, tags, starts, depth);
            if (result > 0)
                result = add_known(buffer, end);
        }
        Py_XDECREF(text);
    }
    Py_DECREF(known);
    return result;
}

PyDoc_STRVAR(plain_data_doc, "plain_data(node, inherited, tags, starts, defaults) -> bytes | None\n\n"
                             "As `pcj.serialize._plain_data`.");

static PyObject *plain_data(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (count != 5 || !PyUnicode_Check(arguments[1]) || !PyDict_CheckExact(arguments[2])
        || !PyDict_CheckExact(arguments[3]) || !(arguments[4] == Py_None || PyDict_CheckExact(arguments[4]))) {
        PyErr_SetString(PyExc_TypeError, "plain_data(node, inherited: str, tags: dict, starts: dict, defaults: dict | None)");
        return NULL;
    }
    Buffer buffer;
    buffer.data = buffer.small;
    buffer.size = 0;
    buffer.room = sizeof buffer.small;
    Result result = write_node(&buffer, arguments[0], arguments[1], arguments[2], arguments[3],
                               arguments[4] == Py_None ? NULL : arguments[4], 1);
    PyObject *found = NULL;
    if (result > 0)
        found = PyBytes_FromStringAndSize(buffer.data, buffer.size);
    else if (result == 0)
        found = Py_NewRef(Py_None);
    if (buffer.data != buffer.small)
        PyMem_Free(buffer.data);
    return found;
}

static PyMethodDef methods[] = {
    {"plain_data", (PyCFunction)(void (*)(void))plain_data, METH_FASTCALL, plain_data_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "pcj._speed", "What pcj does for each stanza, compiled.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__speed(void)
{
    PyObject *tree = PyImport_ImportModule("xml.etree.ElementTree");
    if (tree == NULL)
        return NULL;
    element_type = PyObject_GetAttrString(tree, "Element");
    Py_DECREF(tree);
    name_tag = PyUnicode_InternFromString("tag");
    name_attrib = PyUnicode_InternFromString("attrib");
    name_text = PyUnicode_InternFromString("text");
    name_tail = PyUnicode_InternFromString("tail");
    xml_namespace = PyUnicode_FromString("http://www.w3.org/XML/1998/namespace");
    if (!element_type || !name_tag || !name_attrib || !name_text || !name_tail || !xml_namespace)
        return NULL;
    return PyModule_Create(&definition);
}
