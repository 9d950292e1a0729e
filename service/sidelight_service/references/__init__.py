"""Reference sets: named, immutable examples on disk.

A set is a folder, `<data>/references/sets/<name>`, that appears whole by a rename:

    header.json     what the set holds; see `header`
    input_0.npy     one array per input, axis 0 counts the examples
    labels.npy      the labels, if there are any

It is made in `<data>/references/staging/`, and goes there to be deleted. So whatever kills the server, a set
is there whole or not at all, and all that lies in staging afterwards is rubbish.

The front process writes sets and hands out leases (`store`); workers map them into memory and select
examples of them (`opened`, `selecting`).
"""
