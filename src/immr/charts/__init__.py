"""Charts as inline SVG, for the evaluation report and the web page. Style sheets set colours and fonts."""
