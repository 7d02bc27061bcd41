"""From raw chest CT to trained and scored lung-nodule classifiers, as a Dagster project.

Research use only: nothing here is a medical device.
"""

from luna_pipeline.core import garbage, uninterrupted_imports

garbage.collect_rarely()
uninterrupted_imports.install()
