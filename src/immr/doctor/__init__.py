"""Checks of what IMMR needs: libraries, folders, services, and a cluster. Nothing is started or changed."""
