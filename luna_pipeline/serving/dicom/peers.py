"""Transfer of DICOM objects to a peer, by C-STORE or STOW-RS; objects that the peer has are stored again unchanged.

Source:
    DICOM PS3.4, B.2.3 (status of C-STORE); PS3.18, 10.5 (STOW-RS).
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from luna_pipeline.core.ct.quiet import quiet_pydicom
from luna_pipeline.serving.config import Peer, ReceiverConfig

if TYPE_CHECKING:
    from pydicom import Dataset
    from pynetdicom.association import Association

_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 120.0
# Success; attributes were coerced, left out, or differ from the class: stored.
_STORED = {0x0000, 0xB000, 0xB006, 0xB007}
_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
# No chunks: the client cannot repeat a request in chunks, and some archives do not read them.
_ONE_CHUNK_BYTES = 1 << 40


class DeliveryError(Exception):
    """A peer did not accept all objects; the message is one line without anything of a patient."""


def send(peer: Peer, files: Sequence[Path], config: ReceiverConfig) -> None:
    """Send DICOM files to a peer.

    Args:
        peer: The receiving system.
        files: Files in the DICOM file format.
        config: Own title, and the certificates for TLS.

    Raises:
        DeliveryError: If the peer cannot be reached or does not accept an object.
    """
    for name in ("pynetdicom", "dicomweb_client"):
        # They log titles, addresses and UIDs.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with quiet_pydicom():
            (_by_cstore if peer.kind == "cstore" else _by_stow)(peer, files, config)
    except OSError as error:
        # requests' errors are OSErrors, too; their texts hold addresses.
        reason = f"The peer must be reachable, got {type(error).__name__} ({peer.name}). Check its address and network."
        raise DeliveryError(reason) from None


def _by_cstore(peer: Peer, files: Sequence[Path], config: ReceiverConfig) -> None:
    from pydicom import dcmread
    from pynetdicom import AE

    from luna_pipeline.serving.dicom.transport import client_tls

    datasets = [dcmread(path) for path in files]
    entity = AE(ae_title=config.aet)
    entity.connection_timeout, entity.dimse_timeout = _CONNECT_SECONDS, _ANSWER_SECONDS
    for sop_class in {dataset.SOPClassUID for dataset in datasets}:
        entity.add_requested_context(sop_class, _SYNTAXES)
    tls = (client_tls(config), peer.host) if peer.tls else None
    association = entity.associate(peer.host, peer.port, ae_title=peer.aet, tls_args=tls)
    try:
        _check_established(association, peer)
        for dataset, path in zip(datasets, files, strict=True):
            _store(association, dataset, path.name, peer)
    finally:
        if association.is_established:
            association.release()


def _check_established(association: "Association", peer: Peer) -> None:
    if association.is_established:
        return
    how = "a rejected association" if association.is_rejected else "no association"
    raise DeliveryError(f"The peer must accept an association, got {how} ({peer.name}). Check titles, port and TLS.")


def _store(association: "Association", dataset: "Dataset", name: str, peer: Peer) -> None:
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    if dataset.SOPClassUID not in accepted:
        got = dataset.SOPClassUID.name
        raise DeliveryError(f"The peer must accept {name}, got a refused class, {got} ({peer.name}). Allow it there.")
    status = association.send_c_store(dataset).get("Status")
    if status not in _STORED:
        got = "no answer" if status is None else f"status 0x{status:04X}"
        raise DeliveryError(f"The peer must store {name}, got {got} ({peer.name}). See its log.")


def _by_stow(peer: Peer, files: Sequence[Path], _config: ReceiverConfig) -> None:
    import requests
    from dicomweb_client import DICOMwebClient
    from pydicom import dcmread

    session = requests.Session()
    # A redirect would turn the request into a GET of a login page, which succeeds.
    session.max_redirects = 0
    headers = _authorization(peer)
    client = DICOMwebClient(
        peer.url, session, headers=headers, chunk_size=_ONE_CHUNK_BYTES, timeout=(_CONNECT_SECONDS, _ANSWER_SECONDS)
    )
    client.set_http_retry_params(retry=False)
    datasets = [dcmread(path) for path in files]
    try:
        answer = client.store_instances(datasets)
    except requests.HTTPError as error:
        status = "an error" if error.response is None else f"status {error.response.status_code}"
        raise DeliveryError(f"The peer must store all objects, got {status} ({peer.name}). See its log.") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = type(error).__name__
        raise DeliveryError(f"The answer must be one of STOW-RS, got {got} ({peer.name}). Check the url.") from None
    stored = {item.get("ReferencedSOPInstanceUID") for item in answer.get("ReferencedSOPSequence") or ()}
    num_missing = sum(dataset.SOPInstanceUID not in stored for dataset in datasets)
    if num_missing:
        got = f"{num_missing} of {len(datasets)} missing"
        raise DeliveryError(f"The peer must confirm all objects, got {got} ({peer.name}). See its log.")


def _authorization(peer: Peer) -> dict[str, str]:
    if not peer.token_variable:
        return {}
    token = os.environ.get(peer.token_variable, "")
    if not token:
        message = (
            f"The variable {peer.token_variable} must hold a token, got none ({peer.name}). Set it for the worker."
        )
        raise DeliveryError(message)
    return {"Authorization": f"Bearer {token}"}
