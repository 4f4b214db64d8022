"""asyncssh as a client of the matrix: HOST PORT USER PASSWORD ACTION LOCAL REMOTE."""
import asyncio
import os
import sys

import asyncssh

host, port, user, password, action = sys.argv[1:6]
local, remote = (os.fsencode(word) for word in sys.argv[6:8])


async def main():
    login = dict(username=user, password=password, known_hosts=None, client_keys=None)
    async with asyncssh.connect(host, int(port), **login) as connection, connection.start_sftp_client() as sftp:
        if action in ("put", "put_with_times"):
            await sftp.put(local, remote, preserve=action == "put_with_times")
        elif action in ("get", "get_with_times"):
            await sftp.get(remote, local, preserve=action == "get_with_times")
        elif action == "put_tree":
            await sftp.put(local, remote, recurse=True)
        elif action == "get_tree":
            await sftp.get(remote, local, recurse=True)
        elif action == "rename":
            await sftp.rename(local, remote)
        elif action == "resume":
            start = (await sftp.stat(remote)).size
            with open(local, "rb") as source:
                source.seek(start)
                async with sftp.open(remote, "r+b") as target:
                    await target.write(source.read(), start)
        elif action == "fetch":
            start = os.stat(local).st_size
            with open(local, "ab") as target:
                async with sftp.open(remote, "rb") as source:
                    target.write(await source.read(-1, start))
        else:
            sys.exit(f"unknown action {action}")


asyncio.run(main())
