"""One folder a class."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcls.datasets import MultiLabelDataset
from mlcls.datasets.formats import read_annotations, recognise_format
from mlcls.datasets.formats.folders import read_folders
from mlcls.errors import DataError

from ..conftest import encode


@pytest.fixture
def tree(write, tmp_path):
    """Write files with the given contents below a folder of the given name."""
    made = iter(range(1000))

    def _tree(**files):
        root = f'tree{next(made)}'
        for name, content in files.items():
            write(f'{root}/{name}', content)
        return tmp_path / root

    return _tree


def rows(read):
    dense = read.labels.dense()
    return {
        path: {name for name, value in zip(read.classes, row) if value == 1} for path, row in zip(read.img_paths, dense)
    }


def test_one_label_an_image(tree):
    root = tree(**{'dog/b.PNG': 'b', 'cat/a.jpg': 'a', 'cat/c d.jpeg': 'c', 'émile/e.webp': 'e'})
    read = read_annotations(root)
    assert read.source == 'folders: folders with images'
    assert read.classes == ('cat', 'dog', 'émile')
    assert rows(read) == {
        'cat/a.jpg': {'cat'},
        'cat/c d.jpeg': {'cat'},
        'dog/b.PNG': {'dog'},
        'émile/e.webp': {'émile'},
    }
    assert read.notes == ()


def test_the_same_file_in_several_folders_has_several_labels(tree):
    same = {'cat/1.jpg': 'same', 'dog/1.jpg': 'same', 'ant/2.jpg': 'x', 'cat/2.jpg': 'y', 'dog/2.jpg': 'x'}
    root = tree(**same, **{'cat/3.jpg': 'same', 'cat/4.jpg': 'aa', 'dog/4.jpg': 'bb', 'dog/5.jpg': 'aa'})
    read = read_folders(root)
    assert rows(read) == {
        'ant/2.jpg': {'ant', 'dog'},
        'cat/1.jpg': {'cat', 'dog'},
        'cat/2.jpg': {'cat'},
        'cat/3.jpg': {'cat'},
        'cat/4.jpg': {'cat'},
        'dog/4.jpg': {'dog'},
        'dog/5.jpg': {'dog'},
    }
    assert read.notes == (
        f'{root}: 2 file names occur in several class folders with different contents; they are different images',
    )


def test_hidden_and_other_files(tree):
    files = {'cat/.hidden.jpg': '', '.git/x.jpg': '', '__MACOSX/a.jpg': '', 'cat/a.jpg': 'a', 'cat/notes.txt': ''}
    root = tree(**files, **{'cat/Thumbs.db': '', 'README.md': '', 'top.jpg': ''})
    read = read_folders(root)
    assert rows(read) == {'cat/a.jpg': {'cat'}}
    assert read.notes == (
        f'{root}: 2 files lie outside of the class folders and were left out (top.jpg, README.md)',
        f'{root}: 2 files are no images and were left out (Thumbs.db, notes.txt)',
    )


def test_splits(tree):
    root = tree(**{'train/cat/a.jpg': 'a', 'train/dog/b.jpg': 'b', 'val/dog/a.jpg': 'a'})
    assert recognise_format(root) == ('folders', 'folders of folders with images')
    assert rows(read_folders(root, split='train')) == {'train/cat/a.jpg': {'cat'}, 'train/dog/b.jpg': {'dog'}}
    read = read_folders(root, ['cat', 'dog'], split='val')
    assert read.classes == ('cat', 'dog') and read.labels.dense().tolist() == [[0, 1]]
    message = (
        "train: has folders of its own ('cat', ...), but a class folder holds images only; if they are splits, say"
    )
    with pytest.raises(DataError, match=re.escape(message)):
        read_folders(root)
    with pytest.raises(DataError, match="has no folder 'trian'; did you mean 'train'?"):
        read_folders(root, split='trian')


def test_given_classes(tree):
    root = tree(**{'cat/a.jpg': 'a', 'dog/b.jpg': 'b'})
    read = read_annotations(root, classes=['dog', 'cat', 'cow'])
    assert read.classes == ('dog', 'cat', 'cow')
    assert read.labels.dense().tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(DataError, match="'cat' is none of the 2 classes; did you mean 'cats'?"):
        read_annotations(root, classes=['cats', 'dog'])


def test_an_empty_folder_is_a_class(tree):
    root = tree(**{'cat/a.jpg': 'a', 'dog/readme': ''})
    assert read_folders(root).classes == ('cat', 'dog')


def test_folders_that_cannot_be_used(tree, tmp_path):
    with pytest.raises(DataError, match='none: no such folder'):
        read_folders(tmp_path / 'none')
    root = tree(**{'a.jpg': 'a'})
    with pytest.raises(DataError, match=r'a\.jpg: is a file, not a folder'):
        read_folders(root / 'a.jpg')
    with pytest.raises(DataError, match='has no folders, which would be the classes'):
        read_folders(root)
    with pytest.raises(DataError, match=r'no class folder holds an image \(jpg, jpeg, '):
        read_folders(tree(**{'cat/a.txt': 'a'}))
    deep = tree(**{'cat/a.jpg': 'a', 'dog/more/b.jpg': 'b'})
    with pytest.raises(
        DataError, match=r"dog: has folders of its own \('more', ...\), but a class folder holds imag.*y$"
    ):
        read_folders(deep)


def test_a_file_that_cannot_be_read(tree):
    root = tree(**{'cat/a.jpg': 'a'})
    (root / 'dog').mkdir()
    os.symlink('nowhere', root / 'dog/a.jpg')
    with pytest.raises(DataError, match=r'dog/a\.jpg: cannot be read \(No such file'):
        read_folders(root)


def test_the_images_load(tree, picture):
    root = tree(**{'cat/a.jpg': encode(picture, 'JPEG'), 'dog/a.jpg': encode(picture, 'JPEG')})
    data = MultiLabelDataset(ann_file=str(root), pipeline=[{'type': 'LoadImageFromFile'}])
    assert len(data) == 1 and data[0]['targets'].tolist() == [1, 1] and data[0]['img'].shape == picture.shape


@pytest.mark.parametrize(
    'files',
    [
        {'images/a.jpg': '', 'labels/a.txt': ''},
        {'train/images/a.jpg': '', 'train/labels/a.txt': ''},
        {'data/a.jpg': ''},
        {'cat/a.txt': ''},
        {'a.jpg': ''},
    ],
)
def test_other_folders_are_not_recognised(tree, files):
    root = tree(**files)
    try:
        name = recognise_format(root)[0]
    except DataError as error:
        assert 'this folder is of no known format' in str(error) or 'has images, but no labels' in str(error)
    else:
        assert name != 'folders'


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(['cat', 'dog', 'cow']), st.sampled_from(['1.jpg', '2.jpg', '3.png'])),
        st.sampled_from([b'', b'a', b'b', b'aa']),
        min_size=1,
    )
)
def test_against_brute_force(tmp_path_factory, files):
    """One image for each (name, bytes); its classes are the folders of the files, its path the first of them."""
    root = tmp_path_factory.mktemp('folders')
    for (folder, name), content in files.items():
        (root / folder).mkdir(exist_ok=True)
        (root / folder / name).write_bytes(content)
    expected = {}
    for (folder, name), content in sorted(files.items()):
        expected.setdefault((name, content), []).append(folder)
    read = read_folders(root)
    assert rows(read) == {f'{folders[0]}/{name}': set(folders) for (name, _), folders in expected.items()}


def test_every_split_has_the_classes_of_all(tmp_path):
    for name in ('train/cat/1.jpg', 'train/dog/2.jpg', 'valid/dog/3.jpg'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    for split in ('train', 'valid'):
        assert read_folders(tmp_path, split=split).classes == ('cat', 'dog')
