"""The starts of scripts that run in processes of their own."""

#: the start of a script that loads compat alone (as ``module``), under a package that is empty otherwise; format it with the
#: folder of the package
COMPAT_ALONE = """
import importlib.util, json, sys, types
package = types.ModuleType("recbole_ib")
package.__path__ = [{package!r}]
sys.modules["recbole_ib"] = package
for name in ("errors", "compat"):
    spec = importlib.util.spec_from_file_location("recbole_ib." + name, {package!r} + "/" + name + ".py")
    module = sys.modules["recbole_ib." + name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
"""
