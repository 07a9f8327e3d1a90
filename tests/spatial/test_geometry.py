"""Points, surfaces and streamlines: what is mapped, and what is kept."""

import nibabel as nb
import numpy as np
import pytest
from nibabel.affines import from_matvec
from nibabel.streamlines import TckFile, Tractogram, TrkFile

from vxmprep.spatial.geometry import GeometryError, map_streamlines, map_surface, map_table
from vxmprep.spatial.grid import Grid
from vxmprep.spatial.transform import Transform

SHIFT = Transform((from_matvec(np.eye(3), [10.0, -20.0, 30.0]),))
GRID = Grid((20, 24, 22), from_matvec(np.diag([-2.0, 2.0, 2.0]), [20.0, -20.0, -20.0]))


def test_a_table_keeps_its_other_columns_and_its_absent_points(tmp_path):
    source = tmp_path / "electrodes.tsv"
    source.write_text('name\tx\ty\tz\ttype\n"a, b"\t1\t2\t3\tcup\nc\tn/a\tn/a\tn/a\tring\n')
    assert map_table(source, tmp_path / "o.tsv", SHIFT) == (1, 2)
    assert (tmp_path / "o.tsv").read_text() == (
        "name\tx\ty\tz\ttype\na, b\t11.0000\t-18.0000\t33.0000\tcup\nc\tn/a\tn/a\tn/a\tring\n"
    )


def test_a_point_that_lacks_one_coordinate_keeps_none_of_the_old_space(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,z\n1,nan,3\n1,2,3\n")
    assert map_table(tmp_path / "a.csv", tmp_path / "o.csv", SHIFT) == (1, 2)
    assert (tmp_path / "o.csv").read_text() == "x,y,z\nn/a,n/a,n/a\n11.0000,-18.0000,33.0000\n"


def test_columns_may_be_in_capitals_and_any_order(tmp_path):
    (tmp_path / "a.csv").write_text("Z,label,Y,X\n3,here,2,1\n")
    map_table(tmp_path / "a.csv", tmp_path / "o.csv", SHIFT)
    assert (tmp_path / "o.csv").read_text() == ("Z,label,Y,X\n33.0000,here,-18.0000,11.0000\n")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a,b\n1,2\n", "no columns x, y and z between commas"),
        ("", "no columns"),
        ("x,y,z\n1,2,three\n", "row 2 has no three numbers"),
        ("x,y,z\n1,2,3\n1,2\n", "row 3 has no three numbers"),
    ],
)
def test_what_is_no_table_of_points_is_refused(text, what, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(GeometryError, match=what):
        map_table(tmp_path / "a.csv", tmp_path / "o.csv", SHIFT)
    assert not (tmp_path / "o.csv").exists()


def test_line_breaks_in_cells_are_kept(tmp_path):
    text = 'x,y,z,said\n1,2,3,"one\ntwo"\n1,2,3,"one\r\ntwo"\n1,2,3,one\u2028two\n'
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert map_table(tmp_path / "a.csv", tmp_path / "o.csv", lambda points: points) == (3, 3)
    mapped = text.replace("1,2,3", "1.0000,2.0000,3.0000")
    assert (tmp_path / "o.csv").read_bytes() == mapped.encode()


def surface(path, dataspace: int, xform=None, **meta):
    vertices = nb.gifti.GiftiDataArray(
        np.eye(3, dtype=np.float32), intent="NIFTI_INTENT_POINTSET", datatype="float32",
        coordsys=nb.gifti.GiftiCoordSystem(dataspace, 1, np.eye(4) if xform is None else xform),
        meta=nb.gifti.GiftiMetaData(**meta),
    )  # fmt: skip
    faces = nb.gifti.GiftiDataArray(
        np.array([[0, 1, 2]], np.int32), intent="NIFTI_INTENT_TRIANGLE", datatype="int32"
    )
    nb.save(nb.gifti.GiftiImage(darrays=[vertices, faces]), path)


def test_vertices_are_mapped_and_triangles_kept(tmp_path):
    surface(tmp_path / "a.surf.gii", 1)
    assert map_surface(tmp_path / "a.surf.gii", tmp_path / "o.surf.gii", SHIFT) == 3
    vertices, faces = (array.data for array in nb.load(tmp_path / "o.surf.gii").darrays)
    np.testing.assert_allclose(vertices, np.eye(3) + np.array([10, -20, 30]))
    np.testing.assert_array_equal(faces, [[0, 1, 2]])


def test_freesurfers_vertices_are_moved_to_the_scanners_world_once(tmp_path):
    centre = {"VolGeomC_R": "1.5", "VolGeomC_A": "-2", "VolGeomC_S": "3"}
    surface(tmp_path / "a.surf.gii", 0, **centre)
    map_surface(tmp_path / "a.surf.gii", tmp_path / "o.surf.gii", Transform(()))
    map_surface(tmp_path / "o.surf.gii", tmp_path / "p.surf.gii", Transform(()))
    for name in ("o", "p"):
        found = nb.load(tmp_path / f"{name}.surf.gii").darrays[0].data
        np.testing.assert_allclose(found, np.eye(3) + np.array([1.5, -2, 3]))


@pytest.mark.parametrize("centre", [{}, {"VolGeomC_R": "7"}])
def test_vertices_go_to_the_scanners_world_by_the_transform_of_their_file_once(centre, tmp_path):
    xform = from_matvec([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [4, 5, 6])
    surface(tmp_path / "a.surf.gii", 0, xform, **centre)
    map_surface(tmp_path / "a.surf.gii", tmp_path / "o.surf.gii", Transform(()))
    map_surface(tmp_path / "o.surf.gii", tmp_path / "p.surf.gii", Transform(()))
    for name in ("o", "p"):
        found = nb.load(tmp_path / f"{name}.surf.gii").darrays[0].data
        np.testing.assert_allclose(found, [[4, 6, 6], [3, 5, 6], [4, 5, 7]])


def test_a_file_without_vertices_is_refused(tmp_path):
    nb.save(nb.gifti.GiftiImage(), tmp_path / "a.gii")
    with pytest.raises(GeometryError, match="holds no vertices"):
        map_surface(tmp_path / "a.gii", tmp_path / "o.gii", SHIFT)


@pytest.mark.parametrize(("kind", "end"), [(TrkFile, ".trk"), (TckFile, ".tck")])
def test_streamlines_are_mapped_and_what_is_stored_with_them_kept(kind, end, tmp_path):
    lines = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((3, 3), np.float32)]
    more = {"data_per_streamline": {"w": [[1.0], [2.0]]}} if end == ".trk" else {}
    source = tmp_path / f"a{end}"
    kind(Tractogram(lines, **more, affine_to_rasmm=np.eye(4))).save(str(source))
    assert map_streamlines(source, tmp_path / f"o{end}", SHIFT, GRID) == 2
    found = nb.streamlines.load(tmp_path / f"o{end}")
    for before, after in zip(lines, found.streamlines, strict=True):
        np.testing.assert_allclose(after, before + np.array([10, -20, 30]), atol=1e-4)
    if end == ".trk":
        np.testing.assert_array_equal(found.tractogram.data_per_streamline["w"], [[1], [2]])
        np.testing.assert_allclose(found.header["voxel_to_rasmm"], GRID.affine)
        assert tuple(found.header["dimensions"]) == GRID.shape


@pytest.mark.parametrize("end", [".trk", ".tck"])
def test_no_streamlines_stay_none_and_other_files_are_refused(end, tmp_path):
    kind = TrkFile if end == ".trk" else TckFile
    kind(Tractogram([], affine_to_rasmm=np.eye(4))).save(str(tmp_path / f"a{end}"))
    assert map_streamlines(tmp_path / f"a{end}", tmp_path / f"o{end}", SHIFT, GRID) == 0
    (tmp_path / f"b{end}").write_text("no")
    with pytest.raises(GeometryError, match=rf"b\{end}: not a file of streamlines"):
        map_streamlines(tmp_path / f"b{end}", tmp_path / f"o{end}", SHIFT, GRID)


def test_a_table_in_another_encoding_is_named(tmp_path):
    (tmp_path / "a.tsv").write_bytes("x\ty\tz\n1\t2\t3\n".encode("utf-16"))
    with pytest.raises(GeometryError, match=r"a.tsv: not text in UTF-8; save it as that"):
        map_table(tmp_path / "a.tsv", tmp_path / "b.tsv", SHIFT)


def test_a_table_may_be_named_in_capitals(tmp_path):
    (tmp_path / "A.TSV").write_text("x\ty\tz\n1\t2\t3\n")
    assert map_table(tmp_path / "A.TSV", tmp_path / "b.tsv", lambda points: 2 * points) == (1, 1)
    assert (tmp_path / "b.tsv").read_text() == "x\ty\tz\n2.0000\t4.0000\t6.0000\n"
