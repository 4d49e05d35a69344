"""Data: the order of search, the md5 before unpickling, downloads that fail, synthetic images."""

import functools
import hashlib
import http.server
import pickle
import socketserver
import tarfile
import threading

import numpy as np
import pytest
import torch

from common import data, options
from common.data import FOLDER, DataError
from part1 import crop

TrainBatch1 = data.train_batch_1()


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A tiny CIFAR-10 in tmp_path/published, whose md5s count as the published ones."""
    batches = tmp_path / "published" / FOLDER
    batches.mkdir(parents=True)
    for name, attribute, labels in [("data_batch_1", "train_list", [3, 1]), ("test_batch", "test_list", [7, 0, 2])]:
        pixels = np.arange(len(labels) * 3072).reshape(-1, 3072) % 256
        (batches / name).write_bytes(pickle.dumps({"data": pixels.astype(np.uint8), "labels": labels}))
        md5 = hashlib.md5((batches / name).read_bytes()).hexdigest()
        monkeypatch.setattr(TrainBatch1, attribute, [[name, md5]])
    monkeypatch.setattr(data, "ROOT", tmp_path / "lab" / "repository")
    monkeypatch.delenv("CIFAR10_ROOT", raising=False)
    monkeypatch.setattr(TrainBatch1, "url", "http://127.0.0.1:9/cifar.tar.gz")  # nobody answers there
    return batches.parent


def test_tensors_are_uint8_channels_first(published):
    cifar = data.load(str(published))
    assert cifar.train_images.dtype == cifar.test_images.dtype == torch.uint8
    assert cifar.train_images.shape == (2, 3, 32, 32) and cifar.test_images.shape == (3, 3, 32, 32)
    assert cifar.train_labels.tolist() == [3, 1] and cifar.test_labels.tolist() == [7, 0, 2]
    assert cifar.train_images[0, 1, 2, 3] == (1 * 1024 + 2 * 32 + 3) % 256  # as stored: channel, row, column


def test_the_folder_itself_may_be_named(published):
    assert data.find(str(published / FOLDER)) == published


def test_order_of_search(published, monkeypatch, tmp_path):
    repository = tmp_path / "lab" / "repository"
    elsewhere = tmp_path / "elsewhere"
    for folder in (repository.parent / "shared", repository / "data", elsewhere):
        folder.mkdir(parents=True)
        (folder / FOLDER).symlink_to(published / FOLDER)
        if folder == elsewhere:
            monkeypatch.setenv("CIFAR10_ROOT", str(folder))
        assert data.find() == folder  # each goes before those already there
    assert data.find(str(published)) == published


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
@pytest.mark.parametrize("damage", ["truncated", "altered"])
def test_a_damaged_batch_is_named_and_not_unpickled(published, tmp_path, name, damage):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "unpickled"), "w"))

    path = published / FOLDER / name
    path.write_bytes(path.read_bytes()[:-100] if damage == "truncated" else pickle.dumps(Payload()))
    expected = dict(TrainBatch1.train_list + TrainBatch1.test_list)[name]
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(DataError) as error:
        data.load(str(published))
    assert all(word in str(error.value) for word in (str(path), expected, found))
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("missing", ["folder", "batches", "one batch", "batch is a folder"])
def test_data_dir_without_cifar(published, missing):
    folder = published if missing != "folder" else published / "nowhere"
    if missing == "batches":
        folder = published.parent
    if missing in ("one batch", "batch is a folder"):
        (published / FOLDER / "test_batch").unlink()
    if missing == "batch is a folder":
        (published / FOLDER / "test_batch").mkdir()
    with pytest.raises(DataError, match="--data-dir") as error:
        data.load(str(folder))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_no_data_and_no_network_is_one_line(published, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["crop.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        options.run_script(crop.main)
    output, errors = capsys.readouterr()
    assert stop.value.code == 2 and output.startswith("downloading CIFAR-10") and errors.count("\n") == 1
    for word in (str(data.ROOT / "data"), str(data.ROOT.parent / "shared"), "127.0.0.1", "--data-dir", "synthetic"):
        assert word in errors
    assert not (data.ROOT / "data" / "partial").exists()


def test_a_reply_that_is_not_http(published, monkeypatch):
    with socketserver.TCPServer(("127.0.0.1", 0), NoHTTP) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(TrainBatch1, "url", f"http://127.0.0.1:{server.server_address[1]}/cifar.tar.gz")
        with pytest.raises(DataError, match="downloading"):
            data.load()
        server.shutdown()


class NoHTTP(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1000)
        self.request.sendall(b"good morning\r\n\r\n")


def test_download_cut_in_the_middle_starts_again(published, tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "cifar.tar.gz", "w:gz") as archive:
        archive.add(published / FOLDER, FOLDER)
    whole = (served / "cifar.tar.gz").read_bytes()
    monkeypatch.setattr(TrainBatch1, "tgz_md5", hashlib.md5(whole).hexdigest())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(TrainBatch1, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
        (served / "cifar.tar.gz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError):
            data.load()
        folder = data.ROOT / "data"
        assert not (folder / FOLDER).exists()
        (folder / "partial" / FOLDER).mkdir(parents=True)  # as a killed process would leave it
        (folder / "partial" / FOLDER / "data_batch_1").write_bytes(b"half")
        (folder / FOLDER).mkdir()  # one file is there already: not enough
        (folder / FOLDER / "test_batch").write_bytes((published / FOLDER / "test_batch").read_bytes())
        (served / "cifar.tar.gz").write_bytes(whole)
        assert len(data.load().train_images) == 2
        server.shutdown()
    assert not (folder / "partial").exists()


def test_synthetic_images_are_the_same_at_every_call(synthetic):
    again = data.synthetic()
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(synthetic, name), getattr(again, name))
    assert synthetic.train_images.shape == (10_000, 3, 32, 32) and synthetic.train_images.dtype == torch.uint8
    assert torch.bincount(synthetic.train_labels).tolist() == [1000] * 10
    assert torch.bincount(synthetic.test_labels).tolist() == [10] * 10


def test_real_images(cifar):
    assert cifar.train_images.shape == cifar.test_images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(cifar.test_labels).tolist() == [1000] * 10
    assert torch.bincount(cifar.train_labels).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert data.CLASSES[cifar.train_labels[0]] == "frog"  # the data set's well-known first image
