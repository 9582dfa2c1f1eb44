"""What a notebook or a script uses, as `import raytrain as rt`: jobs, runs and their models."""

from raytrain.api.cluster_run import open_job as open_job
from raytrain.api.fields import Columns as Columns
from raytrain.api.fields import Evaluation as Evaluation
from raytrain.api.fields import Lora as Lora
from raytrain.api.fields import Mixture as Mixture
from raytrain.api.fields import Resources as Resources
from raytrain.api.fields import Source as Source
from raytrain.api.fields import SplitFractions as SplitFractions
from raytrain.api.fields import Storage as Storage
from raytrain.api.fields import Task as Task
from raytrain.api.fields import Training as Training
from raytrain.api.job import Job as Job
from raytrain.api.run import Run as Run
from raytrain.api.stored_run import list_runs as list_runs
from raytrain.api.stored_run import open_run as open_run
from raytrain_core.errors import UserError as UserError
