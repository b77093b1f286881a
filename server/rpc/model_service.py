"""ModelService: which packs are served, what they are for, and which version of them answers."""

from __future__ import annotations

from collections.abc import Awaitable

from radserve.ports import ModelRunner
from radserve.server.operation.promotion import Evidence, Override
from radserve.server.operation.served import ServedPacks
from radserve.server.operation.versions import VersionState, VersionStatus
from radserve.server.rpc.convert import pack_to_message, status_to_message
from radserve.server.rpc.errors import Context, answered
from radserve.v1 import model_pb2, model_pb2_grpc


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """Serves radserve.v1.ModelService over the packs of the site."""

    def __init__(self, packs: ServedPacks, runner: ModelRunner) -> None:
        self._packs = packs
        self._runner = runner

    async def ListModels(self, request: model_pb2.ListModelsRequest, context: Context) -> model_pb2.ListModelsResponse:
        return await answered("ListModels", context, self._list())

    async def LoadModel(self, request: model_pb2.LoadModelRequest, context: Context) -> model_pb2.LoadModelResponse:
        model = await answered("LoadModel", context, self._told(self._packs.load(request.pack)))
        return model_pb2.LoadModelResponse(model=model)

    async def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, context: Context
    ) -> model_pb2.UnloadModelResponse:
        model = await answered("UnloadModel", context, self._told(self._packs.unload(request.pack)))
        return model_pb2.UnloadModelResponse(model=model)

    async def PromoteModel(
        self, request: model_pb2.PromoteModelRequest, context: Context
    ) -> model_pb2.PromoteModelResponse:
        given = request.override
        override = Override(tuple(given.persons), given.reason) if request.HasField("override") else None
        promoting = self._packs.promote(
            request.pack, Evidence(request.evaluation_record, override, request.evaluation_signature)
        )
        model = await answered("PromoteModel", context, self._told(promoting))
        return model_pb2.PromoteModelResponse(model=model)

    async def RollbackModel(
        self, request: model_pb2.RollbackModelRequest, context: Context
    ) -> model_pb2.RollbackModelResponse:
        model = await answered("RollbackModel", context, self._told(self._packs.roll_back(request.pack)))
        return model_pb2.RollbackModelResponse(model=model)

    async def ShadowModel(
        self, request: model_pb2.ShadowModelRequest, context: Context
    ) -> model_pb2.ShadowModelResponse:
        shadowing = self._packs.shadow(request.pack, on=not request.off)
        return model_pb2.ShadowModelResponse(model=await answered("ShadowModel", context, self._told(shadowing)))

    async def DeprecateModel(
        self, request: model_pb2.DeprecateModelRequest, context: Context
    ) -> model_pb2.DeprecateModelResponse:
        deprecating = self._packs.deprecate(request.pack, request.reason)
        return model_pb2.DeprecateModelResponse(
            model=await answered("DeprecateModel", context, self._told(deprecating))
        )

    async def _list(self) -> model_pb2.ListModelsResponse:
        models = [await self._message(status) for status in self._packs.listing()]
        return model_pb2.ListModelsResponse(models=models, default_pack=self._packs.default_pack)

    async def _told(self, operation: Awaitable[VersionStatus]) -> model_pb2.Model:
        return await self._message(await operation)

    async def _message(self, status: VersionStatus) -> model_pb2.Model:
        loaded = status.state is not VersionState.AVAILABLE
        ready = loaded and all([await self._runner.is_ready(model) for model in status.pack.models])
        message = pack_to_message(status.pack, ready=ready)
        shadows = self._packs.shadows
        missed = shadows.missed.get(status.pack.digest, 0)
        message.MergeFrom(status_to_message(status, shadows.store.summary(status.pack), missed))
        return message
