"""ModelService: which packs are served, and what they are for."""

from __future__ import annotations

from radserve.models.catalogue import PackCatalogue
from radserve.ports import ModelRunner
from radserve.server.rpc.convert import pack_to_message
from radserve.server.rpc.errors import Context, answered
from radserve.v1 import model_pb2, model_pb2_grpc


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """Serves radserve.v1.ModelService over the packs of the site."""

    def __init__(self, catalogue: PackCatalogue, runner: ModelRunner, default_pack: str) -> None:
        self._catalogue = catalogue
        self._runner = runner
        self._default_pack = default_pack

    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        return await answered("ListModels", context, self._list())

    async def _list(self) -> model_pb2.ListModelsResponse:
        response = model_pb2.ListModelsResponse(default_pack=self._default_pack)
        for name in self._catalogue.names():
            pack = self._catalogue.get(name)
            ready = [await self._runner.is_ready(model) for model in pack.models]
            response.models.append(pack_to_message(pack, ready=all(ready)))
        return response
