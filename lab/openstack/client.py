#!/usr/bin/python3
"""OpenStack's own client for many commands in turn: its imports take longer than most of what it is asked for.

Reads lines from stdin, each a JSON list [user, project, [words]], and answers each with a line {"code", "out", "err"}.
All else comes from the environment, as an openrc sets it.
"""
import importlib
import json
import os
import sys
import tempfile

from openstackclient import shell

# What the commands of tests import when they run.
for name in ("compute.v2.server", "image.v2.image", "network.v2.port", "volume.v3.volume", "volume.v3.volume_snapshot",
             "identity.v3.token"):
    try:
        importlib.import_module("openstackclient." + name)
    except ImportError:
        pass  # another version has it elsewhere, and imports it itself


def perform(user, project, words):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for number, to in enumerate((os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno())):
                    os.dup2(to, number)
                os.environ.update(OS_USERNAME=user, OS_PROJECT_NAME=project)
                code = shell.main(words)
            except SystemExit as end:
                code = end.code
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code if isinstance(code, int) else 1)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}


for line in sys.stdin:
    print(json.dumps(perform(*json.loads(line))), flush=True)
