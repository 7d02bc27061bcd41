"""Builds the documentation as a site: pages made from the code, pictures, links."""
