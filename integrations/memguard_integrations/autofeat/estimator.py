"""What scikit-learn asks of an estimator beside fit and predict: parameters, clones, tags.

Without its base classes, so that scikit-learn is imported only when it is itself the one who asks.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

from memguard.errors import DataError
from memguard_integrations.autofeat.names import nearest_hint

__all__ = ["Estimator"]


class Estimator:
    """Parameters are the arguments of ``__init__``, each kept as it was given in an attribute of its name."""

    @classmethod
    def _parameter_names(cls) -> tuple[str, ...]:
        return tuple(inspect.signature(cls).parameters)

    def _check_parameters(self, parameters: dict[str, Any]) -> None:
        """Raise for a parameter that means nothing; all of them are given."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of ``__init__``; ``deep`` makes no difference, for none is an estimator."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change arguments of ``__init__``: all of them, or none where one is refused. A fit stays as it was.

        Raises:
            DataError: for an unknown name or an impossible value.
        """
        names = self._parameter_names()
        for name in parameters:
            if name not in names:
                raise DataError(
                    f"has no parameter {name!r}",
                    subject=type(self).__name__,
                    remedy=nearest_hint(name, names),
                )
        self._check_parameters({**self.get_params(), **parameters})
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def __sklearn_clone__(self) -> Self:
        # Not by copying the arguments, which is scikit-learn's own way: a manager is shared.
        return type(self)(**self.get_params())

    @property
    def _estimator_type(self) -> str:
        # How scikit-learn before 1.6 tells what is stratified and which score is meant.
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import (  # noqa: PLC0415 - it is scikit-learn that asks
            ClassifierTags,
            InputTags,
            RegressorTags,
            Tags,
            TargetTags,
            TransformerTags,
        )

        classifies = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            transformer_tags=TransformerTags(),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else RegressorTags(),
            input_tags=InputTags(string=True, categorical=True, allow_nan=True),
        )
