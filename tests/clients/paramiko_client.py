"""paramiko as a client of the matrix: HOST PORT USER PASSWORD ACTION LOCAL REMOTE."""
import os
import stat
import sys

import paramiko

host, port, user, password, action, first, second = (os.fsencode(word) for word in sys.argv[1:8])
transport = paramiko.Transport((host.decode(), int(port)))
transport.connect(username=user.decode(), password=password.decode())
sftp = paramiko.SFTPClient.from_transport(transport)


def put(local, remote):
    sftp.put(local, remote)


def put_with_times(local, remote):
    put(local, remote)
    found = os.stat(local)
    sftp.utime(remote, (int(found.st_atime), int(found.st_mtime)))


def get(local, remote):
    # Asks for the whole file at once: the server must go on reading while its answers wait.
    sftp.get(remote, local, prefetch=True)


def get_with_times(local, remote):
    get(local, remote)
    found = sftp.stat(remote)
    os.utime(local, (found.st_atime, found.st_mtime))


def resume(local, remote):
    start = sftp.stat(remote).st_size
    with open(local, "rb") as source, sftp.open(remote, "r+b") as target:
        source.seek(start)
        target.seek(start)
        target.set_pipelined(True)
        while part := source.read(32768):
            target.write(part)


def fetch(local, remote):
    start = os.stat(local).st_size
    with open(local, "ab") as target, sftp.open(remote, "rb") as source:
        source.seek(start)
        source.prefetch(sftp.stat(remote).st_size)
        while part := source.read(32768):
            target.write(part)


def put_tree(local, remote):
    sftp.mkdir(remote)
    for entry in os.scandir(local):
        target = remote + b"/" + entry.name
        put_tree(entry.path, target) if entry.is_dir() else put(entry.path, target)


def get_tree(local, remote):
    os.mkdir(local)
    for entry in sftp.listdir_attr(remote):
        # paramiko gives names that are no UTF-8 as bytes.
        name = entry.filename if isinstance(entry.filename, bytes) else entry.filename.encode()
        inner = (os.path.join(local, name), remote + b"/" + name)
        get_tree(*inner) if stat.S_ISDIR(entry.st_mode) else get(*inner)


def rename(old, new):
    sftp.rename(old, new)


globals()[action.decode()](first, second)
transport.close()
